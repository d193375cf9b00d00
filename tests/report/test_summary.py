"""The summary against figures worked by hand and scipy's intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from fedkd.errors import DataError
from fedkd.metrics.scores import MEASURES
from fedkd.report.folder import load_results
from fedkd.report.headline import headline
from fedkd.report.sharpness import controls
from fedkd.report.summary import summarise, summary_values, write_summary
from fedkd.report.table import plain_table


def scores(sd: float | None, accuracy: float = 0.5) -> dict[str, Any]:
    return dict.fromkeys(MEASURES, 0.25) | {"semantic_distance": sd, "accuracy": accuracy}


def write_seed(folder: Path, seed: int, methods: dict[str, Any], **others: Any) -> None:
    path = folder / str(seed)
    path.mkdir(parents=True)
    values = {"schema": 1, "scenario": "small", "seed": seed, "methods": methods, **others}
    (path / "result.json").write_text(json.dumps(values), encoding="utf-8")


def test_summary_holds_means_intervals_and_paired_differences(tmp_path: Path) -> None:
    knot, plain = [0.5, 0.6, 0.4], [0.7, 0.7, 0.65]
    for seed, k, p in zip((10, 2, 0), knot, plain, strict=True):
        write_seed(
            tmp_path,
            seed,
            {"cross-entropy": scores(p), "knot": scores(k)},
            references={"teachers-mean": scores(k - 0.1)},
        )
    values = json.loads(write_summary(tmp_path).read_text(encoding="utf-8"))
    assert {"schema", "scenario", "seeds", "methods", "references", "paired"} == set(values)
    assert values["seeds"] == [0, 2, 10]
    found = values["methods"]["knot"]["semantic_distance"]
    assert found["values"] == knot[::-1]
    low, high = stats.t.interval(0.95, 2, loc=0.5, scale=stats.sem(knot))
    assert (found["mean"], *found["interval"]) == pytest.approx((0.5, low, high))
    paired = values["paired"]["methods"]["knot"]["semantic_distance"]
    gaps = [k - p for k, p in zip(knot, plain, strict=True)]
    low, high = stats.t.interval(0.95, 2, loc=sum(gaps) / 3, scale=stats.sem(gaps))
    assert (paired["mean"], *paired["interval"]) == pytest.approx((sum(gaps) / 3, low, high))
    assert (paired["lower"], paired["higher"], paired["seeds"]) == (3, 0, 3)
    assert values["paired"]["baseline"] == "cross-entropy"
    assert "cross-entropy" not in values["paired"]["methods"]
    assert "teachers-mean" in values["paired"]["references"]


def test_first_method_stands_in_where_cross_entropy_did_not_run(tmp_path: Path) -> None:
    write_seed(tmp_path, 0, {"logit-average": scores(0.5), "knot": scores(0.4)})
    summary = summarise(load_results(tmp_path))
    assert summary.baseline == "logit-average"
    found = summary_values(summary)["paired"]["methods"]["knot"]["semantic_distance"]
    assert found["mean"] == pytest.approx(-0.1)
    assert found["interval"] is None


def test_a_row_missing_on_one_seed_is_compared_on_the_others(tmp_path: Path) -> None:
    write_seed(tmp_path, 0, {"cross-entropy": scores(0.5), "knot": scores(0.3)})
    write_seed(tmp_path, 1, {"cross-entropy": scores(0.9)})
    knot = summarise(load_results(tmp_path)).row("knot")
    assert knot is not None
    assert knot.measures["semantic_distance"].values == (0.3, None)
    assert knot.paired["semantic_distance"].interval.mean == pytest.approx(-0.2)
    assert knot.paired["semantic_distance"].interval.seeds == 1


def test_labels_without_coordinates_have_no_semantic_distance(tmp_path: Path) -> None:
    write_seed(tmp_path, 0, {"cross-entropy": scores(None), "knot": scores(None)})
    summary = summarise(load_results(tmp_path))
    assert summary_values(summary)["methods"]["knot"]["semantic_distance"] is None
    assert "W1" in headline(summary)[0]
    assert "ΔW1" in plain_table(summary)


def test_parties_keep_their_own_figures(five_seeds: Path) -> None:
    values = summary_values(summarise(load_results(five_seeds)))
    results = [
        json.loads((five_seeds / str(seed) / "result.json").read_text()) for seed in range(5)
    ]
    found = values["methods"]["knot/sum/size"]["parties"]["dvd"]["nll"]["values"]
    own = [r["methods"]["knot/sum/size"]["parties"]["dvd"]["nll"] for r in results]
    assert found == own


def test_control_shares_the_gain_between_sharpness_and_meaning(tmp_path: Path) -> None:
    rows = {"cross-entropy": 0.8, "knot": 0.4, "sharpness-control/knot": 0.5}
    for seed, step in enumerate((0.0, 0.01, 0.02)):
        write_seed(tmp_path, seed, {name: scores(sd + step) for name, sd in rows.items()})
    summary = summarise(load_results(tmp_path))
    (control,) = controls(summary)
    assert control.recovered["semantic_distance"] == pytest.approx(0.75)
    assert "w1" not in control.recovered
    assert control.beyond["semantic_distance"].interval.mean == pytest.approx(-0.1)
    text = " ".join(headline(summary)).replace("\N{NO-BREAK SPACE}", " ")
    assert "knot has the lowest semantic distance over 3 seeds: 0.410" in text
    assert "0.400 lower than cross-entropy" in text
    assert "lower on 3 of 3 seeds" in text
    assert "75 % of this gain" in text
    assert "Of 2 methods" in text


def test_headline_claims_nothing_that_the_interval_does_not_hold(tmp_path: Path) -> None:
    for seed, (plain, knot) in enumerate([(0.5, 0.2), (0.5, 0.6), (0.5, 0.5)]):
        write_seed(tmp_path, seed, {"cross-entropy": scores(plain), "knot": scores(knot)})
    text = " ".join(headline(summarise(load_results(tmp_path))))
    assert "do not tell it from cross-entropy" in text


def test_headline_says_so_where_the_baseline_is_best(tmp_path: Path) -> None:
    write_seed(tmp_path, 0, {"cross-entropy": scores(0.2), "knot": scores(0.6)})
    text = " ".join(headline(summarise(load_results(tmp_path))))
    assert "cross-entropy has the lowest" in text
    assert "No other method improves on it" in text


def test_table_is_aligned_and_lists_references_before_methods(five_seeds: Path) -> None:
    lines = plain_table(summarise(load_results(five_seeds))).splitlines()
    names = [line.split()[0] for line in lines[1:]]
    assert names.index("teachers-mean") < names.index("cross-entropy")
    assert names[names.index("knot/sum/size") + 1] == "sharpness-control/knot/sum/size"
    assert all("±" in line for line in lines[1:])
    column = lines[0].index("acc") + len("acc")
    assert all(line[column - 1].isdigit() and line[column] == " " for line in lines[1:])


def test_many_teachers_leave_only_the_best_in_the_table(tmp_path: Path) -> None:
    teachers = {f"teacher/{i}": scores(0.5, accuracy=i / 100) for i in range(20)}
    write_seed(tmp_path, 0, {"cross-entropy": scores(0.5)}, references=teachers)
    lines = plain_table(summarise(load_results(tmp_path))).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["teacher/19", "cross-entropy"]


def test_unfinished_and_broken_seeds(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    with pytest.raises(DataError, match=r"Expected run folder=.*Try `fedkd run` first"):
        load_results(tmp_path)
    (tmp_path / "0" / "result.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"Expected result=.*result\.json"):
        load_results(tmp_path)

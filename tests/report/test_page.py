"""The page is one whole, safe file that says what it lacks."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fake_run import CONTROL, METHODS, write_fake_run

from fedkd.report.canvas import draw_svg
from fedkd.report.folder import LabelFile, load_predictions, load_results
from fedkd.report.page import write_report
from fedkd.report.party_plots import label_plane

VOID = {"meta", "br", "link", "img", "hr", "input"}
HOSTILE = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Collects what a browser would load, run and show, and checks that tags are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.resources: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.resources.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def html(five_seeds: Path) -> str:
    return write_report(five_seeds).read_text(encoding="utf-8")


def test_page_is_whole_and_loads_nothing(html: str) -> None:
    page = Page(html)
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in page.resources)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))
    targets = {r[1:] for r in page.resources if r.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert targets <= set(page.ids)
    assert page.tags.count("svg") == 7


def test_page_names_every_row_and_figure(html: str, five_seeds: Path) -> None:
    text = Page(html).text
    result = json.loads((five_seeds / "0" / "result.json").read_text())
    for name in (*METHODS, CONTROL, *result["references"], *result["parties"], *result["labels"]):
        assert name in text
    assert "left out" not in text.replace("were left out", "").replace("are left out.", "")
    assert "(seed 1)" in text
    assert 'source = "amazon_stars"' in text
    assert "2.13.0" in text
    mean = np.mean(
        [
            json.loads((five_seeds / str(s) / "result.json").read_text())["methods"][
                "cross-entropy"
            ]["w1"]
            for s in range(5)
        ]
    )
    assert f"{mean:.3f} ± " in text


def test_report_is_copied_above_and_leaves_no_temporary_file(five_seeds: Path, html: str) -> None:
    assert (five_seeds.parent / "report.html").read_text(encoding="utf-8") == html
    assert not [f for f in five_seeds.iterdir() if f.name.startswith(".")]


def test_same_results_make_the_same_page(five_seeds: Path, html: str) -> None:
    assert write_report(five_seeds).read_text(encoding="utf-8") == html


def test_names_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    folder = write_fake_run(
        tmp_path / "config",
        seeds=(0, 1),
        scenario=HOSTILE,
        parties=(HOSTILE, "$x_1$ \" onload='y'"),
        labels=(HOSTILE, "a & b", "$5 to $9", "喜び"),
        methods=("cross-entropy", HOSTILE),
        rows=60,
    )
    html = write_report(folder).read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in page.tags
    assert HOSTILE in page.text
    assert "$5 to $9" in page.text
    assert "喜び" in page.text


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "config", seeds=(4,))
    for name in ("predictions.npz", "labels.json", "environment.json", "scenario.toml"):
        (folder / "4" / name).unlink()
    file = folder / "4" / "result.json"
    values = json.loads(file.read_text())
    for key in ("bytes", "seconds", "parties", "hashes", "references", "warnings"):
        del values[key]
    file.write_text(json.dumps(values))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 1
    for lost in ("Reliability", "Confusions", "Label geometry", "partition", "Traffic", "Time"):
        assert re.search(rf"{lost}[^.]* (is|are) left out", page.text)


def test_broken_predictions_are_left_out_not_drawn(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "config", seeds=(0, 1), rows=50)
    (folder / "0" / "predictions.npz").write_bytes(b"PK not a zip")
    found = load_predictions(load_results(folder), "cross-entropy")
    assert found is not None
    assert found.probs.shape == (50, 5)
    assert found.probs.sum(axis=1) == pytest.approx(1)
    np.savez(
        folder / "1" / "predictions.npz",
        **{"truth": np.array([0, 9]), "probs/cross-entropy": np.eye(2)},
    )
    assert load_predictions(load_results(folder), "cross-entropy") is None
    assert "Reliability is left out" in write_report(folder).read_text(encoding="utf-8")


def test_many_parties_and_labels_still_make_a_page(tmp_path: Path) -> None:
    folder = write_fake_run(
        tmp_path / "config",
        seeds=(0,),
        parties=[f"party-{i}" for i in range(60)],
        labels=[f"label {i}" for i in range(40)],
        methods=("cross-entropy", *(f"variant-{i}" for i in range(14))),
        rows=300,
    )
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "The 40 largest of 60" in text
    assert "The first 11 of 15 methods" in text
    assert "All 60 teachers" in text


def test_drawing_leaves_no_state_behind() -> None:
    before = dict(mpl.rcParams)
    with pytest.raises(RuntimeError):
        draw_svg("x", "x", (2, 2), lambda figure: (_ for _ in ()).throw(RuntimeError()))
    assert dict(mpl.rcParams) == before


def test_scaling_recovers_distances_of_a_plane() -> None:
    points = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [3.0, 5.0]])
    cost = np.linalg.norm(points[:, None] - points[None], axis=-1)
    plane = label_plane(LabelFile(("a", "b", "c", "d"), "matrix", cost, None))
    assert plane is not None
    found = np.linalg.norm(plane.points[:, None] - plane.points[None], axis=-1)
    assert found == pytest.approx(cost)
    assert "100 %" in plane.origin


def test_equal_costs_are_no_map() -> None:
    assert label_plane(LabelFile(("a", "b", "c"), "onehot", 1 - np.eye(3), None)) is None

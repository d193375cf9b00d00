"""All seeds of one configuration as one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkd.files import write_text
from fedkd.metrics.intervals import Interval, PairedDifference, interval, paired_difference
from fedkd.metrics.scores import MEASURES
from fedkd.report.folder import SeedResult, load_results

SCHEMA = 1
BASELINE = "cross-entropy"
PerSeed = tuple[float | None, ...]


@dataclass(frozen=True)
class Measured:
    """One measure of one row: a value for each seed (None where absent) and their interval."""

    values: PerSeed
    interval: Interval | None


@dataclass(frozen=True)
class Row:
    """One method or reference.

    ``measures`` are over the test rows of all parties together, ``parties`` the same measures on
    each party's own test rows, ``paired`` the differences from the baseline row
    (without measures that either side lacks; empty for the baseline itself).
    """

    name: str
    measures: Mapping[str, Measured]
    parties: Mapping[str, Mapping[str, Measured]]
    paired: Mapping[str, PairedDifference]


@dataclass(frozen=True)
class Summary:
    """Every row over all seeds; ``baseline`` names the method that ``Row.paired`` compares with."""

    scenario: str
    seeds: tuple[int, ...]
    baseline: str
    methods: tuple[Row, ...]
    references: tuple[Row, ...]

    def row(self, name: str) -> Row | None:
        """Return the method or reference of that name."""
        return next((r for r in (*self.methods, *self.references) if r.name == name), None)


def summarise(results: Sequence[SeedResult]) -> Summary:
    """Bring the results of all seeds together; rows keep the order of the first seed that has them.

    Methods are compared with "cross-entropy", or with the first method where it did not run.
    """
    methods = _names(results, "methods")
    baseline = BASELINE if BASELINE in methods else next(iter(methods), "")
    against = _measures(_scores(results, "methods", baseline))
    return Summary(
        scenario=str(results[0].values.get("scenario", "")),
        seeds=tuple(result.seed for result in results),
        baseline=baseline,
        methods=tuple(_row(results, "methods", name, baseline, against) for name in methods),
        references=tuple(
            _row(results, "references", name, baseline, against)
            for name in _names(results, "references")
        ),
    )


def compare(
    row: Mapping[str, Measured], against: Mapping[str, Measured]
) -> dict[str, PairedDifference]:
    """Return the paired difference of every measure that both have on at least one seed."""
    found: dict[str, PairedDifference] = {}
    for measure in MEASURES:
        pairs = [
            (a, b)
            for a, b in zip(row[measure].values, against[measure].values, strict=True)
            if a is not None and b is not None
        ]
        if pairs:
            found[measure] = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    return found


def summary_values(summary: Summary) -> dict[str, Any]:
    """Return the summary as plain values with stable keys.

    ``schema``, ``scenario``, ``seeds``; ``methods`` and ``references`` {row: {measure: {mean,
    interval: [low, high] or null, values: one a seed}, parties: {party: the same measures}}};
    ``paired`` {baseline, methods and references {row: {measure: {mean, interval, seeds, lower,
    higher}}}}. A measure that a row lacks is null.
    """
    groups = {"methods": summary.methods, "references": summary.references}
    return {
        "schema": SCHEMA,
        "scenario": summary.scenario,
        "seeds": list(summary.seeds),
        **{
            name: {
                row.name: _measures_values(row.measures)
                | {"parties": {p: _measures_values(m) for p, m in row.parties.items()}}
                for row in rows
            }
            for name, rows in groups.items()
        },
        "paired": {
            "baseline": summary.baseline,
            **{
                name: {
                    row.name: {m: _paired_values(d) for m, d in row.paired.items()}
                    for row in rows
                    if row.name != summary.baseline
                }
                for name, rows in groups.items()
            },
        },
    }


def write_summary(config_folder: Path) -> Path:
    """Write ``summary.json`` beside the seed folders and return its path."""
    file = config_folder / "summary.json"
    values = summary_values(summarise(load_results(config_folder)))
    write_text(file, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def _names(results: Sequence[SeedResult], group: str) -> list[str]:
    return list(dict.fromkeys(n for result in results for n in result.values.get(group) or {}))


def _scores(results: Sequence[SeedResult], group: str, name: str) -> list[dict[str, Any]]:
    return [(result.values.get(group) or {}).get(name) or {} for result in results]


def _row(
    results: Sequence[SeedResult],
    group: str,
    name: str,
    baseline: str,
    against: Mapping[str, Measured],
) -> Row:
    scores = _scores(results, group, name)
    measures = _measures(scores)
    parties = dict.fromkeys(p for seed in scores for p in seed.get("parties") or {})
    return Row(
        name=name,
        measures=measures,
        parties={
            party: _measures([(seed.get("parties") or {}).get(party) or {} for seed in scores])
            for party in parties
        },
        paired={} if name == baseline else compare(measures, against),
    )


def _measures(scores: Sequence[Mapping[str, Any]]) -> dict[str, Measured]:
    found = {}
    for measure in MEASURES:
        values = tuple(None if s.get(measure) is None else float(s[measure]) for s in scores)
        present = [v for v in values if v is not None]
        found[measure] = Measured(values, interval(present) if present else None)
    return found


def _measures_values(measures: Mapping[str, Measured]) -> dict[str, Any]:
    return {
        name: None
        if m.interval is None
        else {**_interval_values(m.interval), "values": list(m.values)}
        for name, m in measures.items()
    }


def _paired_values(difference: PairedDifference) -> dict[str, Any]:
    return {
        **_interval_values(difference.interval),
        "seeds": difference.interval.seeds,
        "lower": difference.lower,
        "higher": difference.higher,
    }


def _interval_values(found: Interval) -> dict[str, Any]:
    return {"mean": found.mean, "interval": None if found.bounds is None else list(found.bounds)}

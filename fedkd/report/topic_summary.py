"""All seeds of a scenario with topic models, brought together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkd.errors import DataError, expected
from fedkd.files import read_json
from fedkd.metrics.intervals import paired_difference

MEASURES = ("npmi", "c_v", "diversity", "irbo", "perplexity", "accuracy")
WIDTH = 30


def finished_seeds(config_folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return folder and result of every finished seed; raises :class:`DataError` for none."""
    folders = [file.parent for file in config_folder.glob("*/result.json")]
    done = sorted((f for f in folders if (f / "DONE").is_file()), key=lambda f: int(f.name))
    if not done:
        raise DataError(
            expected("finished seeds", 0, f"be in {config_folder.name}", "fedkd run, which goes on")
        )
    return [(folder, read_json(folder / "result.json")) for folder in done]


def summarise_topics(config_folder: Path) -> dict[str, Any]:
    """Return every row's measures: values by seed, median, range; and differences from the first.

    ``paired`` holds mean and 95 % interval of the difference from the first method, by seed.
    """
    results = [values for _, values in finished_seeds(config_folder)]
    rows: dict[str, dict[str, Any]] = {}
    for group in ("methods", "references"):
        for name in dict.fromkeys(n for r in results for n in r[group]):
            found = [r[group].get(name, {}) for r in results]
            rows[name] = {m: _over_seeds([one.get(m) for one in found]) for m in MEASURES}
    rows |= _teachers(results)
    first = next(iter(results[0]["methods"]))
    return {
        "schema": 1,
        "kind": "topics",
        "scenario": results[0]["scenario"],
        "seeds": [r["seed"] for r in results],
        "rows": rows,
        "paired": {
            name: {m: _paired(row[m]["values"], rows[first][m]["values"]) for m in MEASURES}
            for name, row in rows.items()
            if name != first
        },
        "baseline": first,
    }


def table_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary as a Markdown table of medians and ranges."""
    lines = [
        f"{summary['scenario']}, seeds {summary['seeds']}: median (smallest … largest)",
        "",
        f"| {'model':<{WIDTH}} | {' | '.join(MEASURES)} |",
        f"|{'-' * (WIDTH + 2)}|{'|'.join(['---'] * len(MEASURES))}|",
    ]
    for name, row in summary["rows"].items():
        cells = [text_of(m, row[m]) for m in MEASURES]
        lines.append(f"| {name:<{WIDTH}} | {' | '.join(cells)} |")
    return lines


def text_of(measure: str, values: Mapping[str, Any]) -> str:
    """Return median and range as text."""
    if values["median"] is None:
        return "–"
    form = "{:.0f}" if measure == "perplexity" else "{:.3f}"
    middle, low, high = (form.format(values[k]) for k in ("median", "smallest", "largest"))
    return middle if low == high else f"{middle} ({low} … {high})"


def _over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    known = [v for v in values if v is not None]
    return {
        "values": list(values),
        "median": statistics.median(known) if known else None,
        "smallest": min(known, default=None),
        "largest": max(known, default=None),
    }


def _paired(values: Sequence[float | None], against: Sequence[float | None]) -> Any:
    pairs = [
        (a, b) for a, b in zip(values, against, strict=True) if a is not None and b is not None
    ]
    if not pairs:
        return None
    found = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    bounds = found.interval.bounds
    return {
        "mean": found.interval.mean,
        "interval": None if bounds is None else list(bounds),
        "higher": found.higher,
        "lower": found.lower,
    }


def _teachers(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the best local teacher by each measure, seed by seed, and their mean."""
    rows: dict[str, dict[str, Any]] = {"teachers: best of each seed": {}, "teachers: mean": {}}
    for measure in MEASURES:
        best, mean = [], []
        for result in results:
            names = [n for n in result["references"] if n.startswith("teacher/")]
            found = [result["references"][n].get(measure) for n in names]
            known = [v for v in found if v is not None]
            pick = min if measure == "perplexity" else max
            best.append(pick(known) if known else None)
            mean.append(statistics.fmean(known) if known else None)
        rows["teachers: best of each seed"][measure] = _over_seeds(best)
        rows["teachers: mean"][measure] = _over_seeds(mean)
    return rows

"""What protection costs and what it leaves: every arm of a sweep in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from fedkd.errors import DataError, expected
from fedkd.files import read_json_lines, write_json, write_text
from fedkd.metrics.intervals import Interval, interval
from fedkd.report.folder import load_results, read_json, read_text
from fedkd.report.frontier_plot import frontier_plot
from fedkd.report.template import STYLE
from fedkd.report.wording import MINUS, interval_text

ARMS = "arms.json"
COLUMNS = ("accuracy", "semantic_distance", "epsilon_rdp", "epsilon_pld", "label_tv", "member_auc")
_TITLES = (
    "Accuracy",
    "SD",
    "Epsilon (RDP)",
    "Epsilon (PLD)",
    "Label inference TV",
    "Membership AUC",
)


@dataclass(frozen=True)
class ArmResult:
    """One arm over its seeds. ``measured`` has an interval for each of COLUMNS, or None.

    ``label_tv`` is the total variation between a party's true label distribution and the attack's
    guess, mean over parties: larger is less leaked. ``member_auc`` is that of the strongest
    membership attack, mean over parties; 0.5 is chance.
    """

    name: str
    mechanism: str
    unit: str | None
    seeds: int
    measured: dict[str, Interval | None]


def is_sweep(folder: Path) -> bool:
    """Whether this folder holds the arms of a sweep."""
    return (folder / ARMS).is_file()


def sweep_folder(run: Path) -> Path | None:
    """Return the folder of a sweep, given it or the scenario's folder above it; else None."""
    found = [file.parent for file in run.glob(f"*/{ARMS}")]
    if is_sweep(run):
        return run
    return max(found, key=lambda folder: (folder / ARMS).stat().st_mtime) if found else None


def load_arms(folder: Path) -> tuple[str, tuple[ArmResult, ...]]:
    """Return the first method's label and every finished arm.

    Raises :class:`DataError` where no arm has a finished seed.
    """
    listed = (read_json(folder / ARMS) or {}).get("arms", [])
    found, method = [], ""
    for arm in listed:
        try:
            results = load_results(folder / arm["folder"])
        except DataError:
            continue
        method = method or next(iter(results[0].values["methods"]))
        scores = [result.values["methods"].get(method, {}) for result in results]
        rows = [
            {
                "accuracy": score.get("accuracy"),
                "semantic_distance": score.get("semantic_distance"),
                **_epsilons(result.folder),
                **_leakage(result.folder),
            }
            for score, result in zip(scores, results, strict=True)
        ]
        measured = {column: _interval([row[column] for row in rows]) for column in COLUMNS}
        found.append(ArmResult(arm["name"], arm["mechanism"], arm["unit"], len(results), measured))
    if not found:
        raise DataError(expected("arms", str(folder), "hold a finished seed", "`fedkd run` first"))
    return method, tuple(found)


def write_frontier(folder: Path) -> Path:
    """Write ``frontier.json`` and ``report.html`` of a sweep, a copy above; return the page."""
    method, arms = load_arms(folder)
    write_json(folder / "frontier.json", {"method": method, "arms": [_values(a) for a in arms]})
    page = render_frontier(folder, method, arms)
    write_text(folder / "report.html", page)
    write_text(folder.parent / "report.html", page)
    return folder / "report.html"


def render_frontier(folder: Path, method: str, arms: Sequence[ArmResult]) -> str:
    """Return the page as HTML; the drawing is inline."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    texts = (read_text(file) for file in sorted(folder.glob("*/*/*/scenario.toml")))
    return (
        environment.from_string(_PAGE)
        .render(
            style=STYLE,
            title=str((read_json(folder / ARMS) or {}).get("scenario", "sweep")),
            method=method,
            seeds=max(arm.seeds for arm in arms),
            audited=any(arm.measured["label_tv"] for arm in arms),
            headings=_TITLES,
            rows=[(arm.name, arm.mechanism, arm.unit or "none", _cells(arm)) for arm in arms],
            drawing=frontier_plot(arms),
            arm_pages=[(arm.name, arm_page(folder, arm.name)) for arm in arms],
            scenario=next((text for text in texts if text), ""),
        )
        .lstrip()
    )


def frontier_lines(folder: Path) -> list[str]:
    """Return the sweep as aligned plain lines for the terminal."""
    method, arms = load_arms(folder)
    head = [method, "mechanism", "unit", *_TITLES]
    lines = [head, *([a.name, a.mechanism, a.unit or "none", *_cells(a)] for a in arms)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        .rstrip()
        .replace(MINUS, "-")
        for line in lines
    ]


def arm_page(folder: Path, name: str) -> str:
    """Return the relative address of an arm's own report."""
    pages = sorted((folder / name).glob("*/report.html"))
    return str(pages[0].relative_to(folder)) if pages else ""


def _cells(arm: ArmResult) -> list[str]:
    cells = []
    for column in COLUMNS:
        found = arm.measured[column]
        missing = "none" if column.startswith("epsilon") else "–"
        cells.append(missing if found is None else interval_text(found))
    return cells


def _epsilons(seed: Path) -> dict[str, float | None]:
    """Return the largest running epsilon of any party at the end of a seed, by both accountants."""
    last: dict[str, dict[str, Any]] = {}
    for entry in read_json_lines(seed / "ledger.jsonl"):
        if entry.get("epsilon_rdp") is not None:
            last[entry["party"]] = entry
    return {
        name: _largest([entry.get(name) for entry in last.values()])
        for name in ("epsilon_rdp", "epsilon_pld")
    }


def _leakage(seed: Path) -> dict[str, float | None]:
    """Return what the audit measured, mean over parties; None where it was not run."""
    audit = read_json(seed / "audit.json")
    audit = audit if isinstance(audit, dict) else {}
    return {
        "label_tv": _mean_over_parties(audit.get("label_inference"), "tv"),
        "member_auc": _strongest(audit.get("membership")),
    }


def _strongest(parties: Any) -> float | None:
    """Return the AUC of the attack that does best, each taken as its mean over the parties."""
    if not isinstance(parties, dict):
        return None
    attacks = dict.fromkeys(attack for own in parties.values() for attack in own)
    means = [
        _mean_over_parties({party: own.get(attack) for party, own in parties.items()}, "auc")
        for attack in attacks
    ]
    return max((mean for mean in means if mean is not None), default=None)


def _mean_over_parties(parties: Any, key: str) -> float | None:
    if not isinstance(parties, dict):
        return None
    values = [
        float(found[key])
        for found in parties.values()
        if isinstance(found, dict) and isinstance(found.get(key), int | float)
    ]
    return math.fsum(values) / len(values) if values else None


def _largest(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return max(there) if there and len(there) == len(values) else None


def _interval(values: Sequence[float | None]) -> Interval | None:
    there = [float(value) for value in values if value is not None]
    return interval(there) if there else None


def _values(arm: ArmResult) -> dict[str, Any]:
    def plain(found: Interval | None) -> dict[str, float | None] | None:
        return None if found is None else {"mean": found.mean, "half_width": found.half_width}

    measured = {column: plain(arm.measured[column]) for column in COLUMNS}
    facts = {"name": arm.name, "mechanism": arm.mechanism, "unit": arm.unit, "seeds": arm.seeds}
    return facts | measured


_PAGE = """
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style|safe }}</style></head><body><main>
<p class="kicker">fedkd report: privacy against utility</p><h1>{{ title }}</h1>
<p class="lead">What each mechanism and budget costs the student, and what an attacker still learns.
</p>
<p>Student of {{ method }}, {{ seeds }} seed{{ "s" if seeds != 1 }}. Epsilon is the largest of any
party at the end of its run, an upper bound that is proved; what attacks measure is a lower bound on
leakage, and a weak attack proves nothing. “none” means that nothing is guaranteed.
Epsilons for different units (a record, a whole party) must not be compared with each other.</p>
<figure>{{ drawing|safe }}<figcaption>Dots are means over seeds, bars 95 % Student-t intervals.
Numbers are those of the table.
Filled circles protect a record, squares a whole party, hollow circles nothing. Arms of one
budget stand side by side, and those without a guarantee at the right edge of the epsilon axis.
{% if not audited %}Leakage is left out: no seed has audit.json; run `fedkd audit` on this folder,
then `fedkd report`.{% endif %}</figcaption></figure>
<div class="scroll"><table><thead><tr><th>Arm</th><th class="text">Mechanism</th>
<th class="text">Unit</th>{% for h in headings %}<th>{{ h }}</th>{% endfor %}</tr></thead><tbody>
{% for name, mechanism, unit, cells in rows %}<tr><td>{{ loop.index }}. {{ name }}</td>
<td class="text">{{ mechanism }}</td><td class="text">{{ unit }}</td>
{% for cell in cells %}<td>{{ cell }}</td>
{% endfor %}</tr>{% endfor %}</tbody></table></div>
<p class="note">Label inference TV: distance between a party's label distribution and the attack's
guess, larger is less leaked. Membership AUC: 0.5 is chance.</p>
<h2>Each arm</h2><ul>{% for name, page in arm_pages %}<li>
{% if page %}<a href="{{ page }}">{{ name }}</a>{% else %}{{ name }}{% endif %}</li>{% endfor %}
</ul>
{% if scenario %}<h2>How this came about</h2><h3>Scenario of the first arm</h3>
<pre>{{ scenario }}</pre>{% endif %}
</main></body></html>
"""

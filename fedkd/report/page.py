"""The report: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from fedkd.files import write_text
from fedkd.metrics.intervals import PairedDifference
from fedkd.metrics.scores import MEASURES
from fedkd.report.audit import audit_section
from fedkd.report.figures import MOST_PARTIES, MOST_TEACHERS, drawings, mean_traffic
from fedkd.report.folder import SeedResult, load_results, read_json, read_text
from fedkd.report.headline import headline
from fedkd.report.sharpness import Control, controls
from fedkd.report.subclasses import subclasses
from fedkd.report.summary import Measured, Row, Summary, summarise
from fedkd.report.template import PAGE, STYLE
from fedkd.report.wording import (
    TEACHER,
    WORDINGS,
    better,
    byte_text,
    interval_text,
    is_control,
    listed,
    methods_in_order,
    references_in_order,
)

Values = dict[str, Any]
_CONTROL_MEASURES = ("semantic_distance", "w1", "accuracy", "nll")


def write_report(config_folder: Path) -> Path:
    """Write ``report.html`` over all finished seeds of a configuration and return its path.

    A copy goes to the scenario's folder above. The page opens offline: drawings are inline SVG.
    Raises :class:`~fedkd.errors.DataError` where no seed has finished.
    """
    page = render_page(load_results(config_folder))
    file = config_folder / "report.html"
    write_text(file, page)
    write_text(config_folder.parent / "report.html", page)
    return file


def render_page(results: tuple[SeedResult, ...]) -> str:
    """Return the report of these seeds as HTML."""
    summary = summarise(results)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found = controls(summary)
    return (
        environment.from_string(PAGE)
        .render(
            style=STYLE,
            title=summary.scenario or "fedkd run",
            headline=headline(summary),
            facts=_facts(results, summary),
            warnings=_warnings(results),
            table_note=_table_note(summary),
            measures=[WORDINGS[m] for m in MEASURES],
            groups=_groups(summary),
            more_teachers=_more_teachers(summary),
            parties=_parties(summary),
            baseline=summary.baseline,
            control_measures=[WORDINGS[m] for m in _CONTROL_MEASURES],
            controls=[_control(control) for control in found],
            figures=drawings(results, summary),
            party_rows=_party_rows(results),
            subclasses=subclasses(results),
            audit=audit_section(results),
            scenario_text=_first(read_text(r.folder / "scenario.toml") for r in results),
            environment=_flat(_first(read_json(r.folder / "environment.json") for r in results)),
            hashes=_hashes(results),
        )
        .lstrip()
    )


def _facts(results: Sequence[SeedResult], summary: Summary) -> list[tuple[str, str]]:
    first = results[0].values
    seconds = [sum((r.values.get("seconds") or {}).values()) for r in results]
    sent = sum(up for up, _ in mean_traffic(results).values())
    parties = first.get("parties") or {}
    return [
        ("Seeds", listed(summary.seeds) if len(summary.seeds) <= 6 else str(len(summary.seeds))),
        ("Parties", str(len(parties))),
        ("Private rows", f"{sum(int(p.get('rows') or 0) for p in parties.values()):,}"),
        ("Labels", str(len(first.get("labels") or ()))),
        ("Sent by parties", byte_text(sent)),
        ("Time a seed", f"{sum(seconds) / len(seconds):.0f} s"),
    ]


def _warnings(results: Sequence[SeedResult]) -> list[str]:
    seeds: dict[str, list[int]] = {}
    for result in results:
        for warning in dict.fromkeys(result.values.get("warnings") or ()):
            seeds.setdefault(str(warning), []).append(result.seed)
    return [
        text
        if len(where) == len(results)
        else f"{text} (seed{'s' if len(where) > 1 else ''} {listed(where)})"
        for text, where in seeds.items()
    ]


def _table_note(summary: Summary) -> str:
    if len(summary.seeds) == 1:
        return (
            "One seed: figures have no interval, and differences may be chance. Measures are over "
            "the test rows of all parties together. The second line is the difference from "
            f"{summary.baseline}."
        )
    return (
        f"Mean ± half width of the 95 % Student-t interval over {len(summary.seeds)} seeds; "
        "measures are over the test rows of all parties together. The second line is the paired "
        f"difference from {summary.baseline}, bold and coloured where its interval excludes zero "
        "(green is better). Intervals are not corrected for the number of comparisons."
    )


def _groups(summary: Summary) -> list[Values]:
    groups = [
        ("References", references_in_order(summary, MOST_TEACHERS)),
        ("Methods", methods_in_order(summary)),
    ]
    return [
        {"title": title, "rows": [_row(row, summary) for row in rows]}
        for title, rows in groups
        if rows
    ]


def _more_teachers(summary: Summary) -> Values | None:
    teachers = [row for row in summary.references if row.name.startswith(TEACHER)]
    if len(teachers) <= MOST_TEACHERS:
        return None
    return {"title": "Teachers", "rows": [_row(row, summary) for row in teachers]}


def _row(row: Row, summary: Summary) -> Values:
    baseline = row.name == summary.baseline
    kind, tag = ("baseline", "baseline") if baseline else ("", "")
    if is_control(row):
        kind, tag = "control", "CE^γ control"
    return {
        "name": row.name,
        "kind": kind,
        "tag": tag,
        "cells": [_cell(m, row.measures[m], row.paired.get(m)) for m in MEASURES],
    }


def _cell(measure: str, measured: Measured, difference: PairedDifference | None) -> Values:
    value = {"value": interval_text(measured.interval)}
    if difference is None:
        return value | {"paired": "", "verdict": "", "detail": ""}
    paired = interval_text(difference.interval, signed=True)
    return value | {"paired": paired} | _verdict(measure, difference)


def _verdict(measure: str, difference: PairedDifference) -> Values:
    verdict = better(measure, difference)
    return {
        "verdict": "" if verdict is None else "good" if verdict else "bad",
        "detail": f"lower on {difference.lower}, higher on {difference.higher} "
        f"of {difference.interval.seeds} seeds",
    }


def _control(control: Control) -> list[Values]:
    rows: list[Values] = [
        _plain(control.row.name, "baseline", control.row.measures),
        _plain(f"CE^γ ({control.control.name})", "control", control.control.measures),
        _plain(control.baseline.name, "control", control.baseline.measures),
    ]
    beyond = []
    for measure in _CONTROL_MEASURES:
        difference = control.beyond.get(measure)
        if difference is None:
            beyond.append({"value": "–", "verdict": ""})
        else:
            text = interval_text(difference.interval, signed=True)
            beyond.append({"value": text} | _verdict(measure, difference))
    shares = [
        f"{100 * control.recovered[m]:.0f} %" if m in control.recovered else "–"
        for m in _CONTROL_MEASURES
    ]
    rows.append({"name": "Beyond sharpness (row − CE^γ)", "kind": "control", "cells": beyond})
    rows.append(
        {
            "name": "Share of the gain that sharpness alone brings",
            "kind": "control",
            "cells": [{"value": share, "verdict": ""} for share in shares],
        }
    )
    return rows


def _plain(name: str, kind: str, measures: Mapping[str, Measured]) -> Values:
    cells = [
        {"value": interval_text(measures[m].interval), "verdict": ""} for m in _CONTROL_MEASURES
    ]
    return {"name": name, "kind": kind, "cells": cells}


def _parties(summary: Summary) -> list[Values]:
    rows = (*references_in_order(summary, 0), *methods_in_order(summary))
    names = dict.fromkeys(party for row in rows for party in row.parties)
    if len(names) > MOST_PARTIES:
        return []
    return [
        {
            "title": party,
            "rows": [
                {
                    "name": row.name,
                    "kind": "control" if is_control(row) else "",
                    "tag": "",
                    "cells": [_cell(m, row.parties[party][m], None) for m in MEASURES],
                }
                for row in rows
                if party in row.parties
            ],
        }
        for party in names
    ]


def _party_rows(results: Sequence[SeedResult]) -> list[Values]:
    traffic = mean_traffic(results)
    return [
        {
            "name": name,
            "teacher": party.get("teacher", "–"),
            "rows": f"{party.get('rows', 0):,}",
            "test_rows": f"{party.get('test_rows', 0):,}",
            "up": byte_text(traffic[name][0]) if name in traffic else "–",
            "down": byte_text(traffic[name][1]) if name in traffic else "–",
        }
        for name, party in (results[0].values.get("parties") or {}).items()
    ]


def _hashes(results: Sequence[SeedResult]) -> list[tuple[int, str, str]]:
    found = []
    for result in results:
        hashes = result.values.get("hashes") or {}
        if "intake" in hashes:
            found.append((result.seed, "intake", str(hashes["intake"])))
        for label, value in (hashes.get("student") or {}).items():
            found.append((result.seed, f"student {label}", str(value)))
    return found


def _flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(values, dict):
        return []
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines.extend(_flat(value, f"{prefix}{key} "))
        elif isinstance(value, list):
            lines.append((f"{prefix}{key}", ", ".join(map(str, value))))
        else:
            lines.append((f"{prefix}{key}", str(value)))
    return lines


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)

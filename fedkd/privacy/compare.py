"""Both sides' ledgers of a run side by side: totals, differences, and how they are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fedkd.errors import LedgerError, expected
from fedkd.files import read_json_lines
from fedkd.privacy.ledger import FILE, Entry, facts, read_ledger

_SHOWN = 12


@dataclass(frozen=True)
class Totals:
    """What left one party. ``epsilons`` are the last running totals, None where nothing bounds.

    ``whole`` is False where some releases have no guarantee: what is counted then covers the
    others alone.
    """

    party: str
    replies: int
    releases: int
    rows: int
    wire_bytes: int
    mechanism: str
    unit: str | None
    delta: float | None
    epsilon_rdp: float | None
    epsilon_pld: float | None
    figures: tuple[str, ...]
    whole: bool = True


@dataclass(frozen=True)
class Comparison:
    """The ledgers of a seed's run. ``sides`` names what there is: 'server', 'parties' or both.

    ``differences`` is empty where the sides agree; ``lost`` counts replies that left a party and
    never arrived or were rejected, each of them explained by an event of the run.
    """

    folder: Path
    sides: tuple[str, ...]
    totals: tuple[Totals, ...]
    entries: tuple[Entry, ...]
    lost: int
    differences: tuple[str, ...]


def compare_ledgers(run: Path, more: Sequence[Path] = ()) -> Comparison:
    """Check the chains of all ledgers of a run and set both sides against each other.

    ``run`` is a seed's folder or a party's own; ``more`` are further parties' ledger files. Raises
    :class:`LedgerError` where there is none or a chain is broken.
    """
    party_side = (run / "party.json").is_file()
    files = [run / FILE] if party_side else sorted((run / "parties").glob(f"*/{FILE}"))
    files += [path / FILE if path.is_dir() else path for path in more]
    own = [entry for file in files for entry in read_ledger(file)]
    server_file = run / FILE
    server = [] if party_side or not server_file.is_file() else read_ledger(server_file)
    sides = tuple(name for name, there in (("server", server), ("parties", own)) if there)
    if not sides:
        raise LedgerError(
            expected("run", str(run), f"hold a {FILE} with entries", "the folder of one seed")
        )
    lost, differences = 0, tuple[str, ...]()
    if len(sides) == 2:
        lost, differences = _differences(run, server, own)
    shown = own or server
    names = dict.fromkeys(str(entry["party"]) for entry in (*own, *server))
    totals = tuple(_totals(name, [e for e in shown if e["party"] == name]) for name in names)
    return Comparison(run, sides, totals, tuple(shown), lost, differences)


def check_agreement(comparison: Comparison) -> None:
    """Raise :class:`LedgerError` naming the differences where the sides do not agree."""
    found = comparison.differences
    if found:
        more = "" if len(found) <= _SHOWN else f"\n  … and {len(found) - _SHOWN} more"
        listed = "".join(f"\n  {line}" for line in found[:_SHOWN])
        raise LedgerError(f"the two sides' ledgers differ:{listed}{more}")


def print_ledger(
    comparison: Comparison, *, entries: bool = False, console: Console | None = None
) -> None:
    """Print totals per party, and every entry where asked: a table on a terminal, else lines."""
    console = console or Console(highlight=False, soft_wrap=True)
    if entries:
        for entry in comparison.entries:
            console.print(
                f"{entry['party']}  {entry['request']}  {entry['wire_bytes']} bytes  "
                f"{entry['plain']}",
                markup=False,
            )
    if console.is_terminal:
        console.print(_table(comparison.totals))
    else:
        for total in comparison.totals:
            console.print("  ".join(_cells(total)), markup=False)
    replies = sum(total.replies for total in comparison.totals)
    count = sum(total.wire_bytes for total in comparison.totals)
    what = "both sides agree" if len(comparison.sides) == 2 else f"{comparison.sides[0]} only"
    if comparison.differences:
        what = f"{len(comparison.differences)} DIFFERENCES"
    lost = f", {comparison.lost} lost or rejected on the way" if comparison.lost else ""
    console.print(f"{replies} replies, {count} bytes in all{lost}; {what}; chains whole")


def _differences(
    run: Path, server: Sequence[Entry], own: Sequence[Entry]
) -> tuple[int, tuple[str, ...]]:
    failed = {
        (str(event.get("party")), str(event.get("request")))
        for event in read_json_lines(run / "events.jsonl")
        if event.get("event") == "unusable reply"
    }
    failed_requests = {request for _, request in failed}
    mine = {_key(entry): entry for entry in own}
    theirs = {_key(entry): entry for entry in server}
    lines, lost = [], 0
    for key, entry in theirs.items():
        if key not in mine:
            lines.append(f"{_name(entry)}: the server has what its party never recorded")
        elif facts(mine[key]) != facts(entry):
            names = [k for k in facts(entry) if entry.get(k) != mine[key].get(k)]
            lines.append(f"{_name(entry)}: the sides differ in {', '.join(names)}")
    finished = (run / "DONE").is_file()
    for key, entry in mine.items():
        if key in theirs:
            continue
        if not finished or str(entry["request"]) in failed_requests:
            lost += 1
        else:
            lines.append(f"{_name(entry)}: left the party, and the server has no entry")
    return lost, tuple(lines)


def _totals(party: str, entries: Sequence[Entry]) -> Totals:
    releases = [entry for entry in entries if entry["rows"] is not None]
    rows = {(e["kind"], e["set"], tuple(e["rows"])) for e in releases}
    counted = [entry for entry in releases if entry["epsilon_rdp"] is not None]
    last: Mapping[str, Any] = counted[-1] if counted else {}
    how = dict.fromkeys(str(entry["mechanism"]) for entry in releases)
    return Totals(
        party,
        len(entries),
        len(releases),
        sum(stop - start for _, _, (start, stop) in rows),
        sum(int(entry["wire_bytes"]) for entry in entries),
        ", ".join(how) or "none",
        last.get("unit"),
        last.get("delta"),
        last.get("epsilon_rdp"),
        last.get("epsilon_pld"),
        tuple(sorted({name for entry in entries for name in entry["figures"]})),
        len(counted) == len(releases),
    )


def _table(totals: Sequence[Totals]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("party", "replies", "releases", "rows", "bytes"):
        table.add_column(heading, justify="left" if heading == "party" else "right", no_wrap=True)
    for heading in ("mechanism", "epsilon", "figures sent exactly"):
        table.add_column(heading)
    for total in totals:
        counts = (total.replies, total.releases, total.rows, total.wire_bytes)
        table.add_row(
            total.party, *map(str, counts), total.mechanism, _epsilon(total),
            ", ".join(total.figures),
        )  # fmt: skip
    return table


def _cells(total: Totals) -> list[str]:
    return [
        total.party, f"{total.replies} replies", f"{total.releases} releases",
        f"{total.rows} rows", f"{total.wire_bytes} bytes", f"mechanism {total.mechanism}",
        _epsilon(total), f"exact figures: {', '.join(total.figures) or 'none'}",
    ]  # fmt: skip


def _epsilon(total: Totals) -> str:
    if total.epsilon_rdp is None:
        return "no guarantee"
    if not total.whole:
        what = f"epsilon {total.epsilon_rdp:.4g} at delta {total.delta:g} per {total.unit}"
        return f"no guarantee: {what} covers a part alone"
    pld = "" if total.epsilon_pld is None else f", {total.epsilon_pld:.4g} (PLD)"
    return f"epsilon {total.epsilon_rdp:.4g} (RDP){pld} at delta {total.delta:g} per {total.unit}"


def _key(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(entry["party"]), str(entry["request"]), str(entry["sha256"])


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['party']}, {entry['request']}"

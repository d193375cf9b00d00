"""A ledger that cannot be changed without its telling where."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedkd.errors import LedgerError
from fedkd.files import append_json, read_json_lines
from fedkd.privacy import ledger as ledger_module
from fedkd.privacy.accountant import Event
from fedkd.privacy.compare import check_agreement, compare_ledgers, print_ledger
from fedkd.privacy.ledger import (
    Account,
    Ledger,
    facts,
    figures_entry,
    read_ledger,
    release_entry,
)
from fedkd.release import Release


def entry(number: int, party: str = "a", event: Event | None = None, total: float | None = None):
    probs = np.full((4, 2), 0.5, np.float32) + np.float32(number) / 1000
    rows = (4 * number, 4 * number + 4)
    release = Release("probabilities", {"probs": probs}, "t", "l", rows)
    account = Account(
        "gaussian" if event else "none", {}, "party" if event else None, 1e-5,
        event.values() if event else None, total, total,
    )  # fmt: skip
    return release_entry(party, f"answer/{number}", release, account.values(), 100 + number)


def filled(path: Path, count: int = 6) -> Ledger:
    ledger = Ledger(path)
    ledger.append(figures_entry("a", "describe/0", "describe", ["rows"], b"content"))
    for number in range(count):
        ledger.append(entry(number, event=Event("gaussian", 5.0, 4), total=number + 1.0))
    return ledger


def test_entries_say_what_left(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    first, second, *_ = read_ledger(ledger.path)
    assert first["figures"] == ["rows"] and "no guarantee" in first["plain"]
    assert second["arrays"] == {"probs": {"shape": [4, 2], "dtype": "float32"}}
    assert second["rows"] == [0, 4] and second["wire_bytes"] == 100
    assert second["event"] == {"name": "gaussian", "noise": 5.0, "count": 4}
    assert "epsilon 1 in all" in second["plain"]
    assert second["previous"] == first["hash"]
    assert ledger.events == (Event("gaussian", 5.0, 24),)
    assert ledger.rows_out == 24
    assert ledger.bytes_out == len(b"content") + sum(range(100, 106))


def test_the_same_reply_stands_once(tmp_path):
    ledger = filled(tmp_path / "ledger.jsonl")
    before = ledger.path.read_bytes()
    assert not ledger.append(entry(3, event=Event("gaussian", 5.0, 4), total=9.0))
    assert not Ledger(ledger.path).append(entry(0))
    assert ledger.path.read_bytes() == before
    assert ledger.append(entry(3, party="b"))


@pytest.mark.parametrize("change", ["value", "drop", "swap", "event", "insert", "garble"])
def test_a_tampered_line_is_named(change, tmp_path):
    path = filled(tmp_path / "ledger.jsonl").path
    lines = path.read_text().splitlines()
    third = json.loads(lines[3])
    if change == "value":
        lines[3] = json.dumps(third | {"rows": [0, 1]})
    elif change == "event":
        lines[3] = json.dumps(third | {"event": None, "epsilon_rdp": 0.1})
    elif change == "drop":
        del lines[3]
    elif change == "swap":
        lines[3], lines[4] = lines[4], lines[3]
    elif change == "insert":
        lines.insert(3, lines[2])
    else:
        lines[3] = "garbage" + lines[3]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(LedgerError, match="entry 3") as error:
        read_ledger(path)
    if change in ("value", "event"):
        assert "'answer/2' of 'a'" in str(error.value)
    with pytest.raises(LedgerError):
        Ledger(path).append(entry(9))


def test_a_line_torn_by_a_kill_is_no_tampering(tmp_path):
    path = filled(tmp_path / "ledger.jsonl").path
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 7, "party": "a", "requ')
    assert len(read_ledger(path)) == 7
    assert Ledger(path).append(entry(7))
    assert len(read_ledger(path)) == 8


def test_a_long_ledger_is_read_once(tmp_path, monkeypatch):
    """Appending a thousand entries parses each line once, not the whole file each time."""
    parsed = []
    real = ledger_module._parsed
    monkeypatch.setattr(ledger_module, "_parsed", lambda line: parsed.append(1) or real(line))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number in range(1000):
        ledger.append(figures_entry("a", f"train/{number}", "train", ["rows"], b"x"))
    assert len(parsed) == 1000


def sides(tmp_path: Path, own, theirs, *, done: bool = True, events=()) -> Path:
    run = tmp_path / "run"
    party, server = Ledger(run / "parties" / "0000" / "ledger.jsonl"), Ledger(run / "ledger.jsonl")
    for one in own:
        party.append(one)
    for one in theirs:
        server.append(one)
    for event in events:
        append_json(run / "events.jsonl", event)
    if done:
        (run / "DONE").touch()
    return run


def test_agreeing_sides_are_totalled(tmp_path, capsys):
    entries = [entry(n, event=Event("gaussian", 5.0, 4), total=n + 1.0) for n in range(3)]
    run = sides(tmp_path, entries, reversed(entries))
    found = compare_ledgers(run)
    check_agreement(found)
    (total,) = found.totals
    assert (total.rows, total.releases, total.epsilon_rdp, total.unit) == (12, 3, 3.0, "party")
    print_ledger(found, entries=True)
    out = capsys.readouterr().out
    assert "epsilon 3 (RDP)" in out and "both sides agree" in out and "answer/2" in out


def test_differences_are_named(tmp_path):
    changed = entry(1) | {"mechanism": "laplace"}
    run = sides(tmp_path, [entry(0), entry(1), entry(3)], [changed, entry(0), entry(2)])
    found = compare_ledgers(run)
    assert sorted(found.differences) == [
        "a, answer/1: the sides differ in mechanism",
        "a, answer/2: the server has what its party never recorded",
        "a, answer/3: left the party, and the server has no entry",
    ]
    with pytest.raises(LedgerError, match="answer/3"):
        check_agreement(found)


def test_a_reply_lost_on_the_way_is_no_difference(tmp_path):
    event = {"event": "unusable reply", "party": "a", "request": "answer/1", "reason": "late"}
    run = sides(tmp_path, [entry(0), entry(1)], [entry(0)], events=[event])
    found = compare_ledgers(run)
    assert found.lost == 1 and not found.differences


def test_no_ledger_is_an_error(tmp_path):
    with pytest.raises(LedgerError, match="ledger"):
        compare_ledgers(tmp_path)


def test_facts_leave_out_the_chain(tmp_path):
    path = filled(tmp_path / "ledger.jsonl").path
    for line in read_json_lines(path):
        assert not {"number", "previous", "hash"} & set(facts(line))

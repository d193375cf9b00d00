"""The ledger: one entry for every reply that leaves a party, chained so that none can be changed.

The party writes its entry before the bytes go out and the server repeats it at intake. Each entry
carries the hash of the one before it, so that a changed, dropped or exchanged line breaks the
chain at a line that can be named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fedkd.errors import LedgerError
from fedkd.files import append_json
from fedkd.privacy.accountant import Event, event_of
from fedkd.privacy.wording import plain_words
from fedkd.release import Release

FILE = "ledger.jsonl"
CHAIN = ("number", "previous", "hash")
_BEGIN = "0" * 64
Entry = dict[str, Any]
Rows = tuple[int, int]


@dataclass(frozen=True)
class Account:
    """What a reply costs and what all replies of the party have cost with it.

    ``event`` is the privacy event as plain values, None where nothing is spent; the two epsilons
    are running totals at ``delta``, None where nothing is guaranteed or not worth computing.
    """

    mechanism: str = "none"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    unit: str | None = None
    delta: float | None = None
    event: Mapping[str, Any] | None = None
    epsilon_rdp: float | None = None
    epsilon_pld: float | None = None

    def values(self) -> Entry:
        """Return the account as plain values, in one order."""
        return {
            "mechanism": self.mechanism,
            "parameters": dict(self.parameters),
            "unit": self.unit,
            "delta": self.delta,
            "event": None if self.event is None else dict(self.event),
            "epsilon_rdp": self.epsilon_rdp,
            "epsilon_pld": self.epsilon_pld,
        }


def release_entry(party: str, request: str, release: Release, account: Entry, size: int) -> Entry:
    """Return the entry of a release that takes ``size`` bytes on the wire."""
    arrays = {
        name: {"shape": list(array.shape), "dtype": array.dtype.name}
        for name, array in release.arrays.items()
    }
    entry = {
        "party": party,
        "request": request,
        "kind": release.kind,
        "arrays": arrays,
        "figures": [],
        "set": release.transfer_id,
        "rows": list(release.rows),
        "payload_bytes": release.payload_bytes,
        "wire_bytes": size,
        "sha256": release_digest(release),
        "made": release.mechanism,
        "epsilon_spent": release.epsilon_spent,
        **account,
    }
    return entry | {"plain": plain_words(entry)}


def figures_entry(party: str, request: str, kind: str, names: list[str], content: bytes) -> Entry:
    """Return the entry of a reply of named figures; ``content`` is what crosses the wire.

    Figures are exact: nothing is spent on them, and nothing covers them.
    """
    entry = {
        "party": party,
        "request": request,
        "kind": kind,
        "arrays": {},
        "figures": names,
        "set": None,
        "rows": None,
        "payload_bytes": 0,
        "wire_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "made": "exact",
        "epsilon_spent": None,
        **Account().values(),
    }
    return entry | {"plain": plain_words(entry)}


def release_digest(release: Release) -> str:
    """Return the sha256 of the arrays' names and bytes, in name order."""
    digest = hashlib.sha256()
    for name in sorted(release.arrays):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray(release.arrays[name]).tobytes())
    return digest.hexdigest()


def facts(entry: Mapping[str, Any]) -> Entry:
    """Return an entry without its place in a chain: what both sides must agree on."""
    return {key: value for key, value in entry.items() if key not in CHAIN}


@dataclass
class Ledger:
    """One side's ledger file, followed as it grows: no entry is ever read twice by a process.

    ``spent`` adds up the privacy events, ``rows_out`` and ``bytes_out`` what has left, and
    ``blocks`` tells for a kind and a public set which rows were answered, and how.
    """

    path: Path
    spent: dict[Event, int] = field(default_factory=dict)
    rows_out: int = 0
    bytes_out: int = 0
    blocks: dict[tuple[str, str], dict[Rows, Entry]] = field(default_factory=dict)
    _known: dict[tuple[str, str, str], Entry] = field(default_factory=dict)
    _count: int = 0
    _last: str = _BEGIN
    _offset: int = 0

    def follow(self) -> Ledger:
        """Read what was written since; raises :class:`LedgerError` naming a changed entry."""
        if self._offset and (not self.path.is_file() or self.path.stat().st_size < self._offset):
            self.__init__(self.path)  # type: ignore[misc]  # another file in its place
        for entry, offset in _read(self.path, self._offset, self._last, self._count):
            self._take(entry)
            self._offset = offset
        return self

    def append(self, entry: Entry) -> bool:
        """Chain the entry on and write it; an entry known already is not written again.

        Returns whether it was new.
        """
        self.follow()
        if _key(entry) in self._known:
            return False
        chained = {"number": self._count, **entry, "previous": self._last}
        append_json(self.path, chained | {"hash": _hash(chained)})
        self.follow()
        return True

    def known(self, party: str, request: str, digest: str) -> Entry | None:
        """Return the entry of these bytes for this request, if they have left already."""
        return self._known.get((party, request, digest))

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything spent so far, equal events added up."""
        return tuple(replace(event, count=count) for event, count in self.spent.items())

    def _take(self, entry: Entry) -> None:
        self._known[_key(entry)] = entry
        self._count, self._last = self._count + 1, str(entry["hash"])
        self.bytes_out += int(entry["wire_bytes"])
        if entry["event"] is not None:
            event = event_of(entry["event"])
            one = replace(event, count=1)
            self.spent[one] = self.spent.get(one, 0) + event.count
        if entry["rows"] is not None:
            rows = (int(entry["rows"][0]), int(entry["rows"][1]))
            answered = self.blocks.setdefault((entry["kind"], str(entry["set"])), {})
            self.rows_out += rows[1] - rows[0] if rows not in answered else 0
            answered.setdefault(rows, entry)


@cache
def open_ledger(path: Path) -> Ledger:
    """Return the ledger of this path, the same one for a whole process."""
    return Ledger(path)


def read_ledger(path: Path) -> list[Entry]:
    """Return the entries of a file after checking its chain; raises :class:`LedgerError`."""
    return [entry for entry, _ in _read(path, 0, _BEGIN, 0)]


def _read(path: Path, offset: int, previous: str, count: int) -> Iterator[tuple[Entry, int]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            offset += len(line)
            if not line.endswith(b"\n"):
                return
            entry = _parsed(line)
            if entry is None and _torn(line):
                continue
            if entry is None or _broken(entry, previous, count):
                raise LedgerError(
                    f"Expected entry {count} of {path.name}"
                    f"{_named(entry)} to continue the chain. "
                    "Try the other side's ledger: this one was changed after it was written."
                )
            previous, count = str(entry["hash"]), count + 1
            yield entry, offset


def _parsed(line: bytes) -> Entry | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _torn(line: bytes) -> bool:
    """Whether a line is the beginning of an entry that a kill cut short."""
    return not line.strip() or (line.startswith(b'{"number"') and not line.rstrip().endswith(b"}"))


def _broken(entry: Entry, previous: str, count: int) -> bool:
    body = {key: value for key, value in entry.items() if key != "hash"}
    linked = entry.get("previous") == previous and entry.get("number") == count
    return not linked or entry.get("hash") != _hash(body)


def _named(entry: Entry | None) -> str:
    if entry is None or "request" not in entry:
        return ""
    return f" ({entry['request']!r} of {entry.get('party')!r})"


def _key(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(entry["party"]), str(entry["request"]), str(entry["sha256"])


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

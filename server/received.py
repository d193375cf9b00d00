"""Which blocks of rows have come from each party, in this run or before it was stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fedkd.errors import ReleaseError, expected
from fedkd.files import append_json, read_json_lines
from fedkd.privacy.ledger import release_digest
from fedkd.release import Release

Rows = tuple[int, int]
RECEIVED = "received.jsonl"


def cut(rows: int, step: int) -> tuple[Rows, ...]:
    """Return the slices of at most ``step`` rows that are asked for, in order."""
    return tuple((start, min(start + step, rows)) for start in range(0, rows, step))


@dataclass(frozen=True)
class Received:
    """The log of what is stored, one file named ``log`` below each party's folder."""

    folder: Path
    blocks: tuple[Rows, ...]
    log: str = RECEIVED
    _have: dict[str, set[Rows]] = field(default_factory=dict)

    def of(self, party: str) -> set[Rows]:
        """Return the blocks that this party has delivered."""
        if party not in self._have:
            entries = read_json_lines(self.folder / party / self.log)
            self._have[party] = {(e["rows"][0], e["rows"][1]) for e in entries}
        return self._have[party]

    def missing(self, party: str) -> tuple[Rows, ...]:
        """Return the blocks that this party has not delivered yet, in order."""
        have = self.of(party)
        return tuple(block for block in self.blocks if block not in have)

    def check_missing(self, party: str, rows: Rows) -> None:
        """Raise :class:`ReleaseError` for a block that is there already or was never asked for."""
        if rows in self.of(party) or rows not in self.blocks:
            raise ReleaseError(expected("rows", rows, "be missing", "answering each block once"))

    def add(self, party: str, rows: Rows, release: Release) -> None:
        """Write down that a block is stored."""
        entry = {"rows": list(rows), "sha256": release_digest(release)}
        append_json(self.folder / party / self.log, entry)
        self.of(party).add(rows)

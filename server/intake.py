"""The receiving side of the intake: check a release, store it, remember it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.coding import as_stored
from fedkd.errors import ReleaseError, expected
from fedkd.files import append_json, read_json_lines, write_text
from fedkd.intake import Intake
from fedkd.privacy.ledger import release_digest
from fedkd.release import Release, check_release

Rows = tuple[int, int]
RECEIVED = "received.jsonl"
WIDEST_VALUE = 8
FRAMING = 4096
Stored = np.memmap[tuple[int, ...], np.dtype[np.generic]]


@dataclass(frozen=True)
class Receiver:
    """Stores the answers of all parties for one public set, in blocks of rows."""

    folder: Path
    transfer_id: str
    label_id: str
    rows: int
    labels: int
    block_rows: int
    _have: dict[str, set[Rows]] = field(default_factory=dict)

    @property
    def blocks(self) -> tuple[Rows, ...]:
        """The slices that are asked for, in order."""
        step = self.block_rows
        return tuple((s, min(s + step, self.rows)) for s in range(0, self.rows, step))

    def block_bytes(self, rows: Rows) -> int:
        """Return the most bytes that an honest answer for these rows can take on the wire."""
        return (rows[1] - rows[0]) * self.labels * WIDEST_VALUE + FRAMING

    def delivered(self, party: str) -> set[Rows]:
        """Return the blocks that this party has delivered, in this run or before it stopped."""
        if party not in self._have:
            entries = read_json_lines(self.folder / party / RECEIVED)
            self._have[party] = {(e["rows"][0], e["rows"][1]) for e in entries}
        return self._have[party]

    def missing(self, party: str) -> tuple[Rows, ...]:
        """Return the blocks that this party has not delivered yet, in order."""
        have = self.delivered(party)
        return tuple(block for block in self.blocks if block not in have)

    def accept(
        self,
        party: str,
        release: Release,
        rows: Rows,
        record: Callable[[], None] = lambda: None,
    ) -> None:
        """Check a block of probabilities, ``record`` it and store it.

        Raises :class:`ReleaseError` with the reason where the release is not what was asked for.
        """
        check_release(
            release,
            kind="probabilities",
            transfer_id=self.transfer_id,
            label_id=self.label_id,
            rows=rows,
            labels=self.labels,
        )
        if rows in self.delivered(party) or rows not in self.blocks:
            raise ReleaseError(expected("rows", rows, "be missing", "answering each block once"))
        probs = as_stored(release.arrays)
        target = self._open(party, probs)
        if target.dtype != probs.dtype:
            raise ReleaseError(
                expected(
                    "probs.dtype",
                    str(probs.dtype),
                    f"stay {target.dtype} for all blocks",
                    "one encoding per round",
                )
            )
        record()
        target[rows[0] : rows[1]] = probs
        target.flush()
        entry = {"rows": list(rows), "sha256": release_digest(release)}
        append_json(self.folder / party / RECEIVED, entry)
        self.delivered(party).add(rows)

    def accept_bias(
        self, party: str, release: Release, inputs: int, record: Callable[[], None] = lambda: None
    ) -> None:
        """Check a bias vector, ``record`` and store it; raises :class:`ReleaseError`."""
        check_release(
            release,
            kind="statistic",
            transfer_id=self.transfer_id,
            label_id=self.label_id,
            rows=(0, inputs),
            labels=self.labels,
        )
        record()
        folder = self.folder / party
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".bias.partial.npy"
        np.save(partial, release.arrays["bias"], allow_pickle=False)
        partial.replace(folder / "bias.npy")

    def has_bias(self, party: str) -> bool:
        """Whether the bias vector of this party is stored."""
        return (self.folder / party / "bias.npy").is_file()

    def describe(self, party: str, rows: int) -> None:
        """Store how many private rows a party says it holds."""
        write_text(self.folder / party / "party.json", json.dumps({"rows": rows}) + "\n")

    def close(self, parties: Sequence[str], sizes: Mapping[str, int], *, bias: bool) -> Intake:
        """Return the read-only view over the parties that delivered anything."""
        names = tuple(name for name in sorted(parties) if self.delivered(name))
        present = np.zeros((len(names), self.rows), bool)
        for index, name in enumerate(names):
            for start, stop in self.delivered(name):
                present[index, start:stop] = True
        vectors = None
        if bias:
            files = [self.folder / name / "bias.npy" for name in names]
            vectors = np.stack([np.load(f, allow_pickle=False) for f in files]).astype(np.float64)
        return Intake(
            folder=self.folder,
            parties=names,
            rows=self.rows,
            labels=self.labels,
            sizes=np.array([sizes[name] for name in names], np.float64),
            bias=vectors,
            present=None if present.all() else present,
        )

    def _open(self, party: str, like: NDArray[np.generic]) -> Stored:
        path = self.folder / party / "probs.npy"
        if path.is_file():
            return np.lib.format.open_memmap(path, mode="r+")
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (self.rows, *like.shape[1:])
        return np.lib.format.open_memmap(path, mode="w+", dtype=like.dtype, shape=shape)

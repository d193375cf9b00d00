"""The receiving side of the intake: check a release, store it, remember it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.coding import as_stored
from fedkd.errors import ReleaseError, expected
from fedkd.files import write_array, write_text
from fedkd.intake import Intake
from fedkd.release import Release, check_release
from server.received import Received, Rows, cut

Record = Callable[[], None]
WIDEST_VALUE = 8
FRAMING = 4096
Stored = np.memmap[tuple[int, ...], np.dtype[np.generic]]


def nothing() -> None:
    """Enter nothing into a ledger."""


@dataclass(frozen=True)
class Receiver:
    """Stores the answers of all parties for one public set, in blocks of rows."""

    folder: Path
    transfer_id: str
    label_id: str
    rows: int
    labels: int
    block_rows: int

    @cached_property
    def received(self) -> Received:
        """What has come so far."""
        return Received(self.folder, cut(self.rows, self.block_rows))

    @property
    def blocks(self) -> tuple[Rows, ...]:
        """The slices that are asked for, in order."""
        return self.received.blocks

    def block_bytes(self, rows: Rows) -> int:
        """Return the most bytes that an honest answer for these rows can take on the wire."""
        return (rows[1] - rows[0]) * self.labels * WIDEST_VALUE + FRAMING

    def delivered(self, party: str) -> set[Rows]:
        """Return the blocks that this party has delivered, in this run or before it stopped."""
        return self.received.of(party)

    def missing(self, party: str) -> tuple[Rows, ...]:
        """Return the blocks that this party has not delivered yet, in order."""
        return self.received.missing(party)

    def accept(
        self,
        party: str,
        release: Release,
        rows: Rows,
        record: Record = nothing,
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
        self.received.check_missing(party, rows)
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
        self.received.add(party, rows, release)

    def accept_bias(
        self, party: str, release: Release, inputs: int, record: Record = nothing
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
        write_array(self.folder / party / "bias.npy", release.arrays["bias"])

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

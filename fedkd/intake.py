"""The intake: every accepted release of one round, on disk and read in blocks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.encoding import decode

FLOOR = 1e-6


@dataclass(frozen=True)
class Intake:
    """A read-only view of the teachers' accepted answers.

    ``parties`` are sorted by name, so that no sum depends on who answered first. ``sizes`` holds
    the private row counts n_k (teachers,) float64; ``bias`` the bias vectors b_k
    (teachers, labels) float64, or None where nobody was asked for them. ``present``
    (teachers, rows) bool tells which rows a teacher delivered; None is all of them. A teacher that
    is missing on a row answers uniformly there and must get no weight. ``fine`` (rows,) holds true
    fine labels where a simulation knows them, for reference bounds alone.
    """

    folder: Path
    parties: tuple[str, ...]
    rows: int
    labels: int
    sizes: NDArray[np.float64]
    bias: NDArray[np.float64] | None = None
    present: NDArray[np.bool_] | None = None
    fine: NDArray[np.int64] | None = None

    def path(self, party: str) -> Path:
        """Return where one party's probabilities are."""
        return self.folder / party / "probs.npy"

    def raw(self, party: str) -> NDArray[np.generic]:
        """Return one party's probabilities as they came, memory-mapped (rows, labels)."""
        array: NDArray[np.generic] = np.load(self.path(party), mmap_mode="r")
        return array

    def further(self, party: str, name: str) -> NDArray[np.generic]:
        """Return one party's answers to a further question, memory-mapped (rows, …).

        Rows that it did not deliver are NaN; all of them where it delivered none.
        """
        array: NDArray[np.generic] = np.load(self.folder / party / f"{name}.npy", mmap_mode="r")
        return array

    def probs(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return rows ``start:stop`` of every teacher, p_k ← (p_k + 1e-6)/Σ (knot.md E1).

        Shape (teachers, stop - start, labels) float64.
        """
        return self._floored(slice(start, stop))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the numbered rows of every teacher, as :meth:`probs` does."""
        return self._floored(rows)

    def _floored(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        answers = [decode(self.raw(party)[rows], self.labels) for party in self.parties]
        block = np.stack(answers).astype(np.float64)
        if self.present is not None:
            block[~self.present[:, rows]] = 1.0
        block += FLOOR
        block /= block.sum(axis=-1, keepdims=True)
        return block

    def digest(self) -> str:
        """Return the sha256 over party names and their files, in name order."""
        digest = hashlib.sha256()
        for party in self.parties:
            for file in sorted((self.folder / party).iterdir()):
                digest.update(f"{party}/{file.name}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

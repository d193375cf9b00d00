"""Texts made ready for a model once, and cut into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]
POOL_BATCHES = 32


@runtime_checkable
class Inputs(Protocol):
    """Featurised texts: sparse rows, embeddings or token ids."""

    @property
    def lengths(self) -> Rows | None:
        """Tokens of each row (n,) where a batch is padded to its longest row, else None."""

    def __len__(self) -> int: ...

    def batch(self, rows: Rows) -> dict[str, Tensor]:
        """Return the module's keyword arguments for ``rows`` (batch,), on the CPU."""


@dataclass(frozen=True)
class Vectors:
    """Rows that are vectors already, (n, D) float32: given so, or embeddings of texts."""

    values: NDArray[np.float32]

    lengths: None = None

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, rows: Rows) -> dict[str, Tensor]:
        """Return ``vectors`` (batch, D)."""
        return {"vectors": torch.from_numpy(self.values[rows])}


@dataclass(frozen=True)
class Subset:
    """Some rows of featurised texts, numbered anew from 0."""

    whole: Inputs
    rows: Rows

    @property
    def lengths(self) -> Rows | None:
        """Tokens of each row, where there are any."""
        return None if self.whole.lengths is None else self.whole.lengths[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Rows) -> dict[str, Tensor]:
        """Return the module's keyword arguments for ``rows`` (batch,) of the subset."""
        return self.whole.batch(self.rows[rows])


def as_rows(rows: Tensor | NDArray[np.integer] | Sequence[int]) -> Rows:
    """Return row numbers as an int64 numpy array (batch,)."""
    values = rows.cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    return values.astype(np.int64, copy=False)


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths laid end to end: row i is ``start[i]:start[i + 1]``."""

    start: Rows

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def sizes(self) -> Rows:
        """Length of each row (n,)."""
        return np.diff(self.start)

    def gather(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return the flat positions of ``rows`` and where each row begins among them."""
        sizes = self.start[rows + 1] - self.start[rows]
        begins = np.zeros(len(rows), np.int64)
        np.cumsum(sizes[:-1], out=begins[1:])
        flat = np.repeat(self.start[rows] - begins, sizes) + np.arange(int(sizes.sum()))
        return flat, begins


def training_batches(
    rows: Rows, lengths: Rows | None, batch_size: int, generator: np.random.Generator
) -> Iterator[Rows]:
    """Yield shuffled batches of ``rows``; where there are lengths, rows of a batch are alike.

    Rows are shuffled, sorted by length inside pools of 32 batches, cut, and the batches are
    shuffled: little padding, and still another order every epoch.
    """
    shuffled = generator.permutation(rows)
    if lengths is None:
        yield from _cut(shuffled, batch_size)
        return
    pools = _cut(shuffled, batch_size * POOL_BATCHES)
    sorted_pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    batches = [batch for pool in sorted_pools for batch in _cut(pool, batch_size)]
    for index in generator.permutation(len(batches)):
        yield batches[index]


def reading_batches(rows: Rows, lengths: Rows | None, batch_size: int) -> Iterator[Rows]:
    """Yield ``rows`` in batches, longest rows first where there are lengths.

    Longest first, so that a batch too large for the memory fails at once.
    """
    ordered = rows if lengths is None else rows[np.argsort(-lengths[rows], kind="stable")]
    yield from _cut(ordered, batch_size)


def _cut(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def to_tensor(values: NDArray[np.generic]) -> Tensor:
    """Return a CPU tensor that shares no memory with a read-only array."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())

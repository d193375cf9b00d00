"""Weighted mean and scatter of each class, streamed over rows that need not fit in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

BLOCK_ROWS = 8192

Floats = NDArray[np.float64]
Values = NDArray[np.floating]


@dataclass(frozen=True)
class Moments:
    """Σ w, the weighted mean (D,) and the scatter Σ w (x − mean)(x − mean)ᵀ (D, D), float64."""

    weight: float
    mean: Floats
    scatter: Floats

    @property
    def covariance(self) -> Floats:
        """The scatter over the weight (D, D); zeros where nothing has weight."""
        return self.scatter / (self.weight or 1.0)

    @property
    def variance(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self.scatter)) / (self.weight or 1.0)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows together (Chan et al. 1979)."""
        total = self.weight + other.weight
        if not other.weight or not self.weight:
            return self if not other.weight else other
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter += np.outer(step, step) * (self.weight * other.weight / total)
        return Moments(total, self.mean + step * (other.weight / total), scatter)


def nothing(width: int) -> Moments:
    """Return the moments of no rows."""
    return Moments(0.0, np.zeros(width), np.zeros((width, width)))


def block_moments(block: Values, weights: Values) -> Moments:
    """Return the moments of one block (n, D) with weights (n,) ≥ 0.

    Rows of float16 and float32 are multiplied in float32 and added up over blocks in float64:
    twice as fast, with an error far below theirs of representation. Others use float64.
    """
    used = np.flatnonzero(weights > 0)
    if not len(used):
        return nothing(block.shape[1])
    exact = block.dtype.itemsize > 4
    share = np.asarray(weights, np.float64)[used]
    rows = block if len(used) == len(block) else block[used]
    rows = np.asarray(rows, np.float64 if exact else np.float32)
    weight = float(share.sum())
    mean = (share.astype(rows.dtype) @ rows).astype(np.float64) / weight
    shift = mean.astype(rows.dtype)
    centred = (rows - shift) * np.sqrt(share).astype(rows.dtype)[:, None]
    # The transpose of a C array is what BLAS takes as it is; only one triangle is computed.
    upper = (blas.dsyrk if exact else blas.ssyrk)(1.0, centred.T)
    upper = np.triu(upper).astype(np.float64)
    rest = mean - shift
    scatter = upper + np.triu(upper, 1).T - weight * np.outer(rest, rest)
    return Moments(weight, mean, scatter)


def class_moments(
    embeddings: Values, weights: Values, block_rows: int = BLOCK_ROWS
) -> tuple[Moments, ...]:
    """Return the moments of each class from embeddings (N, D) and memberships (N, classes).

    Reads ``embeddings`` in blocks and keeps none of them: a memory-mapped file of any length takes
    O(block_rows · D + classes · D²) bytes.
    """
    found = [nothing(embeddings.shape[1]) for _ in range(weights.shape[1])]
    for start, block in blocks(embeddings, block_rows):
        share = weights[start : start + len(block)]
        for index in range(len(found)):
            found[index] = found[index].merge(block_moments(block, share[:, index]))
    return tuple(found)


def blocks(embeddings: Values, block_rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Values]]:
    """Yield (first row, block) over all rows; pages of a memory-mapped file are let go."""
    mapping = getattr(embeddings, "_mmap", None)
    for start in range(0, len(embeddings), block_rows):
        yield start, np.asarray(embeddings[start : start + block_rows])
        if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)

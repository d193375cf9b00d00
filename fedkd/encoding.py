"""How probabilities are stored: as they are, as square roots in bytes, or the largest few of a row.

- float16 or float32 (rows, labels): p itself
- uint8 (rows, labels): round(255 √p), which loses least of what a byte can hold
- ``top_dtype(k)`` (rows,): k labels (uint16) and their codes (uint8, as above); what is missing
  from one is spread evenly over the other labels
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["float16", "float32", "uint8", "top-k"]
LEVELS = 255
Stored = NDArray[Any]
Single = NDArray[np.float32]


def top_dtype(count: int) -> np.dtype[np.void]:
    """Return the dtype of a row that keeps its ``count`` most likely labels."""
    return np.dtype([("label", "<u2", (count,)), ("code", "u1", (count,))])


def encode_roots(probs: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return round(255 √p), uint8, of ``probs`` (rows, labels)."""
    roots = np.sqrt(np.asarray(probs, np.float64))
    codes: NDArray[np.uint8] = np.rint(LEVELS * roots).astype(np.uint8)
    return codes


def encode_top(probs: NDArray[np.floating], count: int) -> Stored:
    """Return the ``count`` most likely labels of every row, (rows,) of ``top_dtype(count)``."""
    probs = np.asarray(probs, np.float64)
    top = np.argsort(-probs, axis=1, kind="stable")[:, :count]
    rows = np.empty(len(probs), top_dtype(count))
    rows["label"] = top
    rows["code"] = encode_roots(np.take_along_axis(probs, top, axis=1))
    return rows


def decode(stored: Stored, labels: int) -> Single:
    """Return probabilities (rows, labels) float32, not made to sum to one."""
    if stored.dtype.kind == "f":
        return np.asarray(stored, np.float32)
    if stored.dtype == np.uint8:
        roots = np.asarray(stored, np.float32) / np.float32(LEVELS)
        return np.asarray(roots * roots, np.float32)
    top, codes = stored["label"], decode(stored["code"], labels)
    rest = np.maximum(1 - codes.sum(axis=1, keepdims=True), 0) / max(labels - top.shape[1], 1)
    probs = np.repeat(rest.astype(np.float32), labels, axis=1)
    np.put_along_axis(probs, top.astype(np.int64), codes, axis=1)
    return np.asarray(probs, np.float32)


@dataclass(frozen=True)
class StoredRows:
    """A ``.npy`` file of rows, read piece by piece without mapping it."""

    path: Path
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def open(cls, path: Path) -> StoredRows:
        """Read the header of ``path``."""
        mapped = np.load(path, mmap_mode="r")
        return cls(path, mapped.dtype, mapped.shape, int(mapped.offset))

    def read_into(self, space: NDArray[np.uint8], start: int) -> None:
        """Fill ``space``, bytes, with what is stored from row ``start`` on.

        Read, not mapped: a page that is mapped stays in memory and costs more than it holds.
        Raises EOFError where the file is too short.
        """
        file = os.open(self.path, os.O_RDONLY)
        try:
            got = os.preadv(file, [space.data], self.offset + start * self.row_bytes)
        finally:
            os.close(file)
        if got != len(space):
            raise EOFError(f"{self.path.name} of {self.path.parent.name} is too short")

    @cached_property
    def row_bytes(self) -> int:
        """How many bytes a row takes."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

"""The rows of one split as they stand in a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VECTORS = ".npz"
SUFFIXES = (".csv", ".jsonl", ".parquet", VECTORS)


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None where there is nothing to read.

    Unless ``label_needed``, a table without that column has no labels.
    """

    text: str
    label: str | None
    domain: str | None
    label_needed: bool = True


@dataclass(frozen=True)
class Table:
    """The rows of one split as they stand in a source.

    ``number`` counts rows from 1 without the header, so that a message can name them; ``label``
    holds what the source holds (integers, names or None); ``domain`` is "" where there is none.
    """

    origin: str
    text: tuple[str, ...]
    label: tuple[Any, ...] | None
    domain: tuple[str, ...]
    number: tuple[int, ...]
    columns: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """Return the words that lead a reader to a row."""
        return f"row {self.number[row]} of {self.origin}"

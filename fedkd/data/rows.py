"""Rows of text with their labels and domains, and the hash rules that choose among them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.seeds import seed_for

Index = NDArray[np.int64]
SHOWN = 10


@dataclass(frozen=True)
class Rows:
    """Texts of one split or one party.

    ``label`` is (rows,) int64, an index into the label names or -1 where unknown; ``domain`` holds
    "" where the source has none.
    """

    text: tuple[str, ...]
    label: Index
    domain: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text)

    def take(self, index: Index | Sequence[int]) -> Rows:
        """Return the rows at ``index`` (integers), in that order."""
        chosen = np.asarray(index, dtype=np.int64)
        return Rows(
            tuple(self.text[i] for i in chosen),
            self.label[chosen],
            tuple(self.domain[i] for i in chosen),
        )


def join_rows(parts: Iterable[Rows]) -> Rows:
    """Return the rows of all parts, one part after the other."""
    every = tuple(parts)
    return Rows(
        tuple(text for part in every for text in part.text),
        np.concatenate([part.label for part in every] or [np.empty(0, np.int64)]),
        tuple(domain for part in every for domain in part.domain),
    )


def normal_form(text: str) -> str:
    """Return what two texts share when they count as the same: NFKC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def digests(texts: Iterable[str], seed: int, purpose: str) -> list[bytes]:
    """Return sha256(seed_for(seed, "", 0, purpose) + text) of each text, 32 bytes each."""
    prefix = str(seed_for(seed, "", 0, purpose)).encode()
    return [hashlib.sha256(prefix + text.encode()).digest() for text in texts]


def hash_order(rows: Rows, seed: int, purpose: str) -> Index:
    """Return (rows,) int64: a random-looking order that depends on content and seed alone.

    Equal texts are ordered by label and domain, so the order in which a source lists its rows
    never shows.
    """
    keys = digests(rows.text, seed, purpose)
    order = sorted(range(len(rows)), key=lambda i: (keys[i], rows.label[i], rows.domain[i]))
    return np.array(order, dtype=np.int64)


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Split ``total`` in proportion to integer ``weights``; what is left goes to the largest rests.

    Ties go to the earlier place, so the result is deterministic. Weights of zero get nothing
    unless all are zero, which counts as equal weights.
    """
    shares = list(weights) if sum(weights) else [1] * len(weights)
    whole = sum(shares)
    parts = [total * share // whole for share in shares]
    rests = [total * share % whole for share in shares]
    for place in sorted(range(len(shares)), key=lambda i: (-rests[i], i))[: total - sum(parts)]:
        parts[place] += 1
    return parts


def list_some(items: Sequence[object]) -> str:
    """Return row numbers or names for a message, cut after the tenth."""
    shown = ", ".join(str(item) for item in items[:SHOWN])
    return f"{shown}, …" if len(items) > SHOWN else shown

"""A party's word distributions in few bytes: what is special about a document, and the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ScenarioError, expected

Floats = NDArray[np.floating]
MOST_WORDS = 65_535
LEVELS = 255
TINY = 1e-12


@dataclass(frozen=True)
class TopWords:
    """The ``m`` words of each document that differ most from the background.

    ``ids`` (documents, m) uint16 and ``codes`` (documents, m) uint8: log(q/background) between
    −range and +range in 255 levels, ``range`` (documents,) float16.
    """

    ids: NDArray[np.uint16]
    codes: NDArray[np.uint8]
    range: NDArray[np.float16]

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.ids.nbytes + self.codes.nbytes + self.range.nbytes


def background(words: Floats) -> NDArray[np.float32]:
    """Return the mean word distribution (words,) float32 over documents; 0 off the support."""
    base: NDArray[np.float32] = np.asarray(words, np.float64).mean(axis=0).astype(np.float32)
    return base


def encode_top(words: Floats, base: NDArray[np.float32], keep: int) -> TopWords:
    """Return the ``keep`` words with the largest |q − background| of each document.

    Raises :class:`ScenarioError` for a vocabulary beyond 65,535 words.
    """
    if words.shape[1] > MOST_WORDS:
        raise ScenarioError(
            expected("words", words.shape[1], f"be at most {MOST_WORDS}", "topics.upload = 'dense'")
        )
    keep = min(keep, words.shape[1])
    gap = np.abs(words - base)
    ids = np.sort(np.argpartition(-gap, keep - 1, axis=1)[:, :keep], axis=1)
    near = np.maximum(base.astype(np.float64), TINY)[ids]
    ratio = np.log(np.maximum(np.take_along_axis(words, ids, axis=1), TINY) / near)
    span = np.maximum(np.abs(ratio).max(axis=1), 1e-3).astype(np.float16)
    wide = span.astype(np.float64)[:, None]
    codes = np.rint((np.clip(ratio / wide, -1, 1) + 1) * (LEVELS / 2))
    return TopWords(ids.astype(np.uint16), codes.astype(np.uint8), span)


def decode_top(top: TopWords, base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return word distributions (documents, words) float32.

    Words that were not kept share what is left in the proportions of the background.
    """
    ids = top.ids.astype(np.int64)
    near = np.maximum(base.astype(np.float64), TINY)[ids]
    wide = top.range.astype(np.float64)[:, None]
    kept = near * np.exp((top.codes / (LEVELS / 2) - 1) * wide)
    kept[base[ids] <= 0] = 0  # words that the party never saw have no mass at all
    kept /= np.maximum(kept.sum(axis=1, keepdims=True), 1)
    rest = 1 - kept.sum(axis=1, keepdims=True)
    others = np.maximum(base.sum(dtype=np.float64) - near.sum(axis=1, keepdims=True), TINY)
    words: NDArray[np.float64] = base[None, :] * (rest / others)
    np.put_along_axis(words, ids, kept, axis=1)
    words /= np.maximum(words.sum(axis=1, keepdims=True), 1e-300)
    found: NDArray[np.float32] = words.astype(np.float32)
    return found


def coding_error(words: Floats, decoded: Floats) -> dict[str, float]:
    """Return what the encoding costs per document: mean total variation and KL in nats."""
    exact = np.asarray(words, np.float64)
    gone = 0.5 * np.abs(exact - decoded).sum(axis=1)
    logs = np.log(np.maximum(exact, TINY)) - np.log(np.maximum(decoded, TINY))
    return {
        "total_variation": float(gone.mean()),
        "largest_total_variation": float(gone.max()),
        "kl": float((exact * logs).sum(axis=1).mean()),
    }

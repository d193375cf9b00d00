"""Coherence of topics from their words' co-occurrence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import DataError, expected
from fedkd.metrics.topics.windows import Cooccurrence

Floats = NDArray[np.float64]
Topics = NDArray[np.integer]
# The windows at which both measures are published (Röder et al., WSDM 2015).
NPMI_WINDOW, C_V_WINDOW = 10, 110
_EPSILON = 1e-12


@dataclass(frozen=True)
class Coherence:
    """One value a topic (K,), NaN where fewer than two of its words occur in the corpus."""

    per_topic: Floats

    @property
    def mean(self) -> float:
        """Mean over the topics that have a value; NaN where none has."""
        known = self.per_topic[~np.isnan(self.per_topic)]
        return float(known.mean()) if len(known) else float("nan")


def npmi(cooccurrence: Cooccurrence, topics: Topics) -> Coherence:
    """Return normalised pointwise mutual information (Bouma 2009; Lau et al., EACL 2014).

    Mean over a topic's pairs of log[(p_ij + ε)/(p_i p_j)] / -log(p_ij + ε), ε = 1e-12, in [-1, 1].
    ``topics`` (K, top) are word numbers, best first; words that the corpus lacks are left out. With
    windows of 10 words counted with ``compat="gensim"`` this is gensim's ``c_npmi``.
    Raises :class:`DataError`.
    """
    pairs, known = _pairs(cooccurrence, topics)
    both = known[:, :, None] & known[:, None, :] & ~np.eye(topics.shape[1], dtype=bool)
    count = both.sum(axis=(1, 2))
    total = np.where(both, pairs, 0.0).sum(axis=(1, 2))
    return Coherence(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def c_v(cooccurrence: Cooccurrence, topics: Topics) -> Coherence:
    """Return C_V (Röder et al., WSDM 2015): words' NPMI vectors against their topic's.

    Word i has the vector of its NPMI with every word of the topic, itself included; the topic has
    their sum; the value is the mean cosine between the two. ``topics`` as in :func:`npmi`. With
    windows of 110 words counted with ``compat="gensim"`` this is gensim's ``c_v``.
    """
    pairs, known = _pairs(cooccurrence, topics)
    vectors = np.where(known[:, :, None] & known[:, None, :], pairs, 0.0)
    whole = vectors.sum(axis=1)
    lengths = np.linalg.norm(vectors, axis=2) * np.linalg.norm(whole, axis=1)[:, None]
    dots = np.einsum("kij,kj->ki", vectors, whole)
    cosines = np.divide(dots, lengths, out=np.zeros_like(dots), where=known & (lengths > 0))
    count = known.sum(axis=1)
    return Coherence(np.where(count > 1, cosines.sum(axis=1) / np.maximum(count, 1), np.nan))


def _pairs(cooccurrence: Cooccurrence, topics: Topics) -> tuple[Floats, NDArray[np.bool_]]:
    """Return NPMI (K, top, top) of all pairs, and which words (K, top) occur at all."""
    check_topics(topics, len(cooccurrence.counts))
    rows = np.asarray(topics)
    counts = cooccurrence.counts[rows[:, :, None], rows[:, None, :]]
    share = counts / float(cooccurrence.windows)
    alone = np.diagonal(share, axis1=1, axis2=2)
    known = alone > 0
    safe = np.where(known, alone, 1.0)
    together = share + _EPSILON
    values = np.log(together / (safe[:, :, None] * safe[:, None, :])) / -np.log(together)
    return values, known


def check_topics(topics: Topics, words: int) -> None:
    """Raise :class:`DataError` unless ``topics`` (K, top) are different word numbers a row."""
    if topics.ndim != 2 or topics.shape[0] < 1 or topics.shape[1] < 2:
        raise DataError(
            expected("topics.shape", topics.shape, "be (K, top) with top >= 2", "top_words(beta)")
        )
    if topics.min() < 0 or topics.max() >= words:
        bounds = (int(topics.min()), int(topics.max()))
        raise DataError(
            expected("topics: smallest and largest word", bounds, f"lie in 0..{words - 1}",
                     "the vocabulary that the topics are over")
        )  # fmt: skip
    if (np.diff(np.sort(topics, axis=1), axis=1) == 0).any():
        raise DataError(
            expected("topics", "a word twice in a row", "hold different words", "top_words(beta)")
        )

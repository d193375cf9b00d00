"""How different topics are from one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import DataError, expected

TOP = 10


def top_words(topics: NDArray[np.floating], top: int = TOP) -> NDArray[np.int64]:
    """Return the numbers (K, top) of the words of largest weight in ``topics`` (K, V).

    Best first; of equal words the earlier one. Raises :class:`DataError` for fewer words than
    ``top``.
    """
    if topics.ndim != 2 or topics.shape[1] < top or top < 1:
        raise DataError(
            expected("topics.shape", topics.shape, f"be (K, V) with V >= {top}",
                     "a larger vocabulary or fewer top words")
        )  # fmt: skip
    return np.argsort(-topics, axis=1, kind="stable")[:, :top].astype(np.int64)


def diversity(topics: NDArray[np.integer], top: int = TOP) -> float:
    """Return the share of different words among all topics' first ``top`` (Dieng et al., 2020).

    ``topics`` (K, >= top) are word numbers, best first; 1 where no word is shared, 1/K where all
    topics are one.
    """
    words = _first(topics, top)
    return len(np.unique(words)) / words.size


def irbo(topics: NDArray[np.integer], top: int = TOP, p: float = 0.9) -> float:
    """Return 1 - the mean rank-biased overlap of all pairs of topics (Bianchi et al., ACL 2021).

    Overlap is the extrapolated one of Webber et al., TOIS 2010, eq. 32, at depth ``top``:
    X_k/k · p^k + (1 - p)/p · Σ_d X_d/d · p^d, X_d being the words that two lists share among their
    first d. 1 where no word is shared, 0 where all topics list the same words in the same order.
    Raises :class:`DataError` for fewer than two topics or p outside (0, 1).
    """
    words = _first(topics, top)
    if len(words) < 2:
        raise DataError(expected("topics", len(words), "be at least 2", "more topics"))
    if not 0 < p < 1:
        raise DataError(expected("p", p, "lie between 0 and 1", "p = 0.9"))
    different, column = np.unique(words, return_inverse=True)
    column = column.reshape(words.shape)
    seen = np.zeros((len(words), len(different)))
    first, second = np.triu_indices(len(words), 1)
    overlap = np.zeros(len(first))
    for depth in range(1, top + 1):
        seen[np.arange(len(words)), column[:, depth - 1]] = 1
        agreement = (seen @ seen.T)[first, second] / depth
        overlap += (1 - p) / p * agreement * p**depth
    overlap += agreement * p**top
    return float(1 - overlap.mean())


def _first(topics: NDArray[np.integer], top: int) -> NDArray[np.integer]:
    if topics.ndim != 2 or not len(topics) or topics.shape[1] < top or top < 1:
        raise DataError(
            expected("topics.shape", topics.shape, f"be (K, n) with n >= {top} words",
                     f"top_words(beta, {top})")
        )  # fmt: skip
    return topics[:, :top]

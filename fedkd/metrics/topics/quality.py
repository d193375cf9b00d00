"""Whether topics predict words, tell classes apart, and are the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fedkd.errors import DataError, expected
from fedkd.metrics.topics.diversity import TOP, top_words

Floats = NDArray[np.float64]
_ON_SIMPLEX = 1e-3


def perplexity(log_probability: float, words: float) -> float:
    """Return the perplexity of a word, exp(-Σ x log p / Σ x).

    ``log_probability`` is Σ_dv x_dv log p_dv (natural) over held-out documents, ``words`` their
    Σ x; at least 1, and V for a model that knows nothing. Sums over parties may be added before.
    """
    if not words > 0 or not log_probability <= 0:
        raise DataError(
            expected("(log probability, words)", (log_probability, words),
                     "be at most 0 and above 0", "held-out documents with words")
        )  # fmt: skip
    return float(np.exp(-log_probability / words))


@dataclass(frozen=True)
class AlignmentQuality:
    """Found topics matched one to one with the true ones.

    ``found`` and ``true`` (pairs,) are the topics matched; ``overlap`` (pairs,) is what two word
    distributions share, Σ_v min(β, β*), and ``top_overlap`` the share of their top ten words.
    ``mean_overlap`` counts a true topic that nothing was matched with as 0.
    """

    found: NDArray[np.int64]
    true: NDArray[np.int64]
    overlap: Floats
    top_overlap: Floats
    mean_overlap: float
    mean_top_overlap: float


def alignment_quality(found: Floats, true: Floats) -> AlignmentQuality:
    """Match ``found`` (K, V) with ``true`` (K*, V) topics so that they share as much as possible.

    Rows are distributions over the same words. Raises :class:`DataError` where they are not.
    """
    for name, topics in (("found", found), ("true", true)):
        if topics.ndim != 2 or topics.shape[1] != true.shape[1] or not len(topics):
            raise DataError(
                expected(f"{name}.shape", topics.shape, f"be (K, {true.shape[-1]})",
                         "topics over the same vocabulary")
            )  # fmt: skip
        off = float(np.abs(topics.sum(axis=1) - 1).max())
        if not (topics.min() >= 0 and off <= _ON_SIMPLEX):
            raise DataError(
                expected(f"{name}: largest |sum - 1|", off, "be distributions", "a softmax")
            )
    shared = np.array([np.minimum(topic, true).sum(axis=1) for topic in found])
    rows, columns = linear_sum_assignment(shared, maximize=True)
    top = min(TOP, true.shape[1])
    ours, theirs = top_words(found, top), top_words(true, top)
    same = np.array(
        [
            len(np.intersect1d(ours[row], theirs[column])) / top
            for row, column in zip(rows, columns, strict=True)
        ]
    )
    overlap = shared[rows, columns]
    return AlignmentQuality(
        rows.astype(np.int64), columns.astype(np.int64), overlap, same,
        float(overlap.sum() / len(true)), float(same.sum() / len(true)),
    )  # fmt: skip


def downstream_accuracy(
    theta: Floats, labels: NDArray[np.int64], splits: NDArray[np.str_]
) -> float:
    """Return the test accuracy of a linear support vector machine that reads topic proportions.

    ``theta`` (documents, K); it learns the documents of split 'train' with a known label (not -1)
    and is asked those of 'test'. Proportions are standardised on the training documents. Raises
    :class:`DataError` where a split has no labelled document or training shows one class only.
    """
    train, test = ((splits == name) & (labels >= 0) for name in ("train", "test"))
    if not test.any() or len(np.unique(labels[train])) < 2:
        raise DataError(
            expected(
                "labelled documents in train and test", (int(train.sum()), int(test.sum())),
                "hold two classes in train and one document in test", "a larger corpus",
            )
        )  # fmt: skip
    machine = make_pipeline(StandardScaler(), LinearSVC(random_state=0, dual=False))
    machine.fit(theta[train], labels[train])
    return float(machine.score(theta[test], labels[test]))

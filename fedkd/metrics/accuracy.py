"""How often the most probable label is the true one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.metrics.checks import check_rows


def accuracy(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the share of rows, both (n,), where the predicted label is the true one."""
    check_rows(len(truth))
    return float(np.mean(truth == predicted))


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the unweighted mean of F1 over the labels that truth or prediction holds.

    Both (n,), labels from 0. The same as scikit-learn's ``f1_score(average="macro")``: a label
    that occurs in neither does not count, one that occurs in only one of them counts 0.
    """
    check_rows(len(truth))
    labels = int(max(truth.max(), predicted.max())) + 1
    hits = np.bincount(truth[truth == predicted], minlength=labels)
    occurs = np.bincount(truth, minlength=labels) + np.bincount(predicted, minlength=labels)
    present = occurs > 0
    return float(np.mean(2 * hits[present] / occurs[present]))

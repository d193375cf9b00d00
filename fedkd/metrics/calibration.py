"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.metrics.checks import check_predictions

BINS = 15
FLOOR = 1e-12


@dataclass(frozen=True)
class Reliability:
    """Top-label confidence against accuracy in bins of equal width, each array (bins,).

    ``edges`` (bins + 1,) bound the bins (lower, upper]; ``confidence`` and ``accuracy`` are means
    over the rows of a bin and NaN where ``rows`` is 0.
    """

    edges: NDArray[np.float64]
    rows: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def negative_log_likelihood(probs: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the mean of -ln max(s_y, 1e-12) in nats; ``probs`` (n, labels), ``truth`` (n,)."""
    check_predictions(probs, truth)
    return float(np.mean(-np.log(np.maximum(probs[np.arange(len(truth)), truth], FLOOR))))


def reliability(
    probs: NDArray[np.float64], truth: NDArray[np.int64], bins: int = BINS
) -> Reliability:
    """Return the reliability bins of the most probable label (Guo et al., ICML 2017)."""
    check_predictions(probs, truth)
    edges = np.linspace(0.0, 1.0, bins + 1)
    confidence = probs.max(axis=1)
    correct = (probs.argmax(axis=1) == truth).astype(np.float64)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    rows = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges=edges,
            rows=rows,
            confidence=np.bincount(place, confidence, minlength=bins) / rows,
            accuracy=np.bincount(place, correct, minlength=bins) / rows,
        )


def expected_calibration_error(
    probs: NDArray[np.float64], truth: NDArray[np.int64], bins: int = BINS
) -> float:
    """Return ECE = Σ_b (n_b/n) |accuracy_b - confidence_b| over top-label bins of equal width."""
    found = reliability(probs, truth, bins)
    used = found.rows > 0
    gap = np.abs(found.accuracy[used] - found.confidence[used])
    return float(np.sum(found.rows[used] * gap) / len(truth))

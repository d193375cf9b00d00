"""What every measure asks of its inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import DataError, expected
from fedkd.release import SIMPLEX_TOLERANCE

_TOLERANCE = SIMPLEX_TOLERANCE["float16"]


def check_rows(rows: int) -> None:
    """Raise :class:`DataError` for a test set without rows, on which no measure is defined."""
    if rows == 0:
        raise DataError(expected("test rows", 0, "be at least 1", "a larger data.test"))


def check_predictions(probs: NDArray[np.float64], truth: NDArray[np.int64]) -> None:
    """Raise :class:`DataError` unless ``probs`` (n, labels) and ``truth`` (n,) can be measured.

    n ≥ 1, one probability vector a row (finite, on the simplex within what float16 loses), and
    every true label among the columns.
    """
    if probs.ndim != 2 or truth.shape != probs.shape[:1]:
        raise DataError(
            expected(
                "shapes of probs and truth",
                (probs.shape, truth.shape),
                "be (n, labels) and (n,)",
                "one row of probabilities for each true label",
            )
        )
    check_rows(len(truth))
    if not np.isfinite(probs).all():
        bad = int((~np.isfinite(probs)).sum())
        raise DataError(
            expected("probs: count of non-finite values", bad, "equal 0", "a smaller learning rate")
        )
    off = float(np.abs(probs.sum(axis=1) - 1).max())
    if probs.min() < 0 or off > _TOLERANCE:
        raise DataError(
            expected(
                "probs: smallest value and largest |sum - 1|",
                (float(probs.min()), off),
                f"lie on the simplex within {_TOLERANCE}",
                "a softmax",
            )
        )
    if truth.min() < 0 or truth.max() >= probs.shape[1]:
        raise DataError(
            expected(
                "truth: smallest and largest label",
                (int(truth.min()), int(truth.max())),
                f"lie in 0..{probs.shape[1] - 1}",
                "test rows whose label is known",
            )
        )

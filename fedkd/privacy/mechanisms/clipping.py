"""Bringing probabilities near to uniform before noise, and back to the simplex after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def near_uniform(probs: Floats, radius: float | None, order: int) -> Floats:
    """Return rows (rows, labels) drawn towards uniform until their distance is ``radius``.

    ``order`` 1 or 2 is the norm of the distance. Rows are put on the simplex exactly first, so
    that the sensitivity holds for what float16 has stored.
    """
    exact: Floats = probs / probs.sum(axis=1, keepdims=True)
    if radius is None:
        return exact
    uniform = 1 / probs.shape[1]
    apart = np.linalg.norm(exact - uniform, ord=order, axis=1, keepdims=True)
    shrink = np.minimum(1.0, radius / np.maximum(apart, 1e-300))
    shrunk: Floats = uniform + (exact - uniform) * shrink
    return shrunk


def onto_simplex(values: Floats) -> Floats:
    """Return the nearest point of the simplex for each row (rows, labels) (Duchi et al. 2008)."""
    ordered = -np.sort(-values, axis=1)
    sums = np.cumsum(ordered, axis=1) - 1
    counts = np.arange(1, values.shape[1] + 1)
    support = (ordered - sums / counts > 0).sum(axis=1)
    shift = sums[np.arange(len(values)), support - 1] / support
    nearest: Floats = np.maximum(values - shift[:, None], 0.0)
    return nearest

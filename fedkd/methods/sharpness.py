"""The sharpness control: how much of a gain comes from being surer alone.

Transport trains surer students than cross-entropy does, and some scores reward that by itself. So
the cross-entropy student's probabilities are raised to the power γ at which their mean entropy
equals that of the student it is held against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import expected

SMALLEST_POWER, LARGEST_POWER = 1e-3, 1e3
STEPS = 60
CLOSE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sharpened:
    """p^γ/Σ (rows, labels), its γ and mean entropy in nats; ``reached`` if that is as asked."""

    probs: Floats
    power: float
    entropy: float
    reached: bool


def match_entropy(probs: Floats, entropy: float) -> Sharpened:
    """Return ``probs`` (rows, labels) raised to the power that gives them mean ``entropy``, nats.

    The entropy falls with the power, so bisection finds it between 1e-3 and 1e3; where the asked
    value lies outside, the closest end is returned with ``reached`` false. Raises ValueError for no
    rows or an entropy that is not a number.
    """
    probs = np.asarray(probs, np.float64)
    if probs.ndim != 2 or not len(probs):
        raise ValueError(expected("probs.shape", probs.shape, "be (rows, labels)", "some rows"))
    if not np.isfinite(entropy):
        raise ValueError(expected("entropy", entropy, "be finite", "mean_entropy(probs)"))
    low, high = np.log(SMALLEST_POWER), np.log(LARGEST_POWER)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if mean_entropy(sharpen(probs, float(np.exp(middle)))) > entropy:
            low = middle
        else:
            high = middle
    power = float(np.exp((low + high) / 2))
    sharpened = sharpen(probs, power)
    found = mean_entropy(sharpened)
    return Sharpened(sharpened, power, found, abs(found - entropy) <= CLOSE)


def sharpen(probs: Floats, power: float) -> Floats:
    """Return p^γ/Σ of every row; a zero stays zero."""
    with np.errstate(divide="ignore"):
        logs = power * np.log(probs)
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


def mean_entropy(probs: Floats) -> float:
    """Return the mean over rows of −Σ p log p, in nats, with 0 log 0 = 0."""
    return float(
        -np.where(probs > 0, probs * np.log(np.where(probs > 0, probs, 1)), 0).sum(1).mean()
    )

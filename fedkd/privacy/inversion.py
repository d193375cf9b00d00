"""What an attacker who knows the mechanism does first: undo it."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_NUMBER = re.compile(
    r"(?:([a-z_]\w*)['\"]?\s*[=:]?\s*)?([0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)", re.IGNORECASE
)
_RESPONSE = ("randomised-response", "randomised response", "randomized", "k-rr", "krr")


def invert_rows(probs: Floats, mechanism: str) -> Floats:
    """Return the rows (rows, labels) as they were before a mechanism that keeps each row's content.

    A temperature T is undone by p^T; rounding, top-k and argmax lose what they lose.
    """
    temperature = parameter(mechanism, "temperature")
    if temperature is None or temperature <= 0:
        return probs
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(probs, np.float64)) * temperature
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


def invert_mean(mean: Floats, mechanism: str) -> Floats:
    """Return the mean (labels,) as it was before a mechanism that adds noise to each row.

    k-ary randomised response keeps a label with p = e^ε/(e^ε + C − 1) and else draws another
    evenly, q each: the unbiased estimate is (mean − q)/(p − q) (Kairouz et al. 2016), put back on
    the simplex. Noise of mean zero has averaged out already.
    """
    if not any(word in mechanism.lower() for word in _RESPONSE):
        return mean
    epsilon = parameter(mechanism, "epsilon_each") or parameter(mechanism, "epsilon")
    labels = len(mean)
    if not epsilon or labels < 2:
        return mean
    kept = math.exp(epsilon) / (math.exp(epsilon) + labels - 1)
    other = (1 - kept) / (labels - 1)
    estimate = np.maximum((mean - other) / (kept - other), 0)
    total = estimate.sum()
    return np.asarray(estimate / total if total > 0 else mean, np.float64)


def parameter(mechanism: str, name: str) -> float | None:
    """Return a number that follows ``name`` in a mechanism's words, or None."""
    for key, value in _NUMBER.findall(mechanism):
        if key.lower() == name:
            return float(value)
    return None

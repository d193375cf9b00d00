"""What saves bytes or softens answers and GUARANTEES NOTHING: temperature, top-k, rounding, argmax.

Proof: none. Sensitivity: unbounded in effect, for the output is a function of the answer without
noise. Event: none. Unit: none. Measured on released answers, rounding, top-k and argmax leave the
inference of a party's label distribution where it was, and temperature can be undone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def softened(probs: Floats, temperature: float) -> Floats:
    """Return p^(1/T), renormalised: the softmax of logits over T."""
    with np.errstate(divide="ignore"):
        logits = np.log(probs) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def top_k(probs: Floats, keep: int) -> Floats:
    """Return the ``keep`` largest probabilities of each row, renormalised; the rest are 0."""
    if keep >= probs.shape[1]:
        return probs
    order = np.argsort(-probs, axis=1, kind="stable")[:, :keep]
    kept = np.zeros_like(probs)
    np.put_along_axis(kept, order, np.take_along_axis(probs, order, axis=1), axis=1)
    result: Floats = kept / kept.sum(axis=1, keepdims=True)
    return result


def rounded(probs: Floats, decimals: int) -> Floats:
    """Return probabilities in steps of 10^-decimals that add up to one (largest remainders)."""
    steps = 10**decimals
    scaled = probs / probs.sum(axis=1, keepdims=True) * steps
    floor = np.floor(scaled)
    left = np.rint(steps - floor.sum(axis=1)).astype(np.int64)
    rank = np.argsort(np.argsort(floor - scaled, axis=1, kind="stable"), axis=1, kind="stable")
    result: Floats = (floor + (rank < left[:, None])) / steps
    return result


def top_label(probs: Floats) -> Floats:
    """Return the most probable label of each row, one-hot."""
    labels: Floats = np.eye(probs.shape[1])[probs.argmax(axis=1)]
    return labels

"""k-ary randomised response (Warner 1965; Kairouz et al. 2014) on the most probable label.

Proof. The party's label is kept with probability e^ε/(e^ε + k − 1), and otherwise replaced by
another one, each equally likely; whatever two labels a party may hold, the probabilities of any
output differ by a factor of at most e^ε. Answers to several rows compose, and do not average out.
Sensitivity: none needed, the bound holds for any two labels. Event: randomised response over k
labels, once a row. Unit: the whole party (any other model in its place).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.privacy.accountant import Event, response_keeps
from fedkd.privacy.noise import Stream

Floats = NDArray[np.float64]


def event(epsilon: float, rows: int, labels: int) -> Event:
    """Return what ``rows`` randomised labels cost, each of ``epsilon``."""
    return Event("randomised-response", epsilon, rows, labels=labels)


def randomised(probs: Floats, epsilon: float, stream: Stream) -> Floats:
    """Return randomised labels, one-hot (rows, labels), of probabilities (rows, labels)."""
    rows, labels = probs.shape
    draws = stream.uniform((rows, 2))
    top = probs.argmax(axis=1)
    other = (top + 1 + np.floor(draws[:, 1] * (labels - 1)).astype(np.int64)) % labels
    kept = draws[:, 0] < response_keeps(epsilon, labels)
    released: Floats = np.eye(labels)[np.where(kept, top, other)]
    return released

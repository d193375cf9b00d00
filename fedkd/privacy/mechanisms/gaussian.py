"""Gaussian noise on clipped probabilities.

Proof. Two points of the simplex lie at most √2 apart, and two within radius r of uniform at most
2r; noise of deviation s on every entry is the Gaussian mechanism (Dwork and Roth 2014, App. A),
rows compose, and the projection onto the simplex is post-processing.
Sensitivity: min(√2, 2r) in Euclidean norm. Event: Gaussian of s over that, once a row. Unit: the
whole party (any other model in its place): nothing finer is proved for one of its records.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedkd.privacy.accountant import Event
from fedkd.privacy.mechanisms.clipping import near_uniform, onto_simplex
from fedkd.privacy.noise import Stream

Floats = NDArray[np.float64]


def sensitivity(clip: float | None) -> float:
    """Return how far apart two parties' rows can be, in Euclidean norm."""
    return math.sqrt(2) if clip is None else min(math.sqrt(2), 2 * clip)


def event(noise: float, clip: float | None, rows: int) -> Event:
    """Return what ``rows`` noisy rows cost; ``noise`` is the deviation of an entry."""
    return Event("gaussian", noise / sensitivity(clip), rows)


def noised(probs: Floats, noise: float, clip: float | None, stream: Stream) -> Floats:
    """Return noisy probabilities (rows, labels) on the simplex."""
    return onto_simplex(near_uniform(probs, clip, 2) + noise * stream.normal(probs.shape))

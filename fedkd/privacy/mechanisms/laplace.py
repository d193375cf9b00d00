"""Laplace noise on clipped probabilities.

Proof. Two points of the simplex differ by at most 2 in absolute sum, and two within radius r of
uniform by at most 2r; Laplace noise of scale b on every entry is the Laplace mechanism (Dwork et
al. 2006), rows compose, and the projection onto the simplex is post-processing.
Sensitivity: min(2, 2r) in absolute sum. Event: Laplace of b over that, once a row. Unit: the whole
party (any other model in its place): nothing finer is proved for one of its records.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.privacy.accountant import Event
from fedkd.privacy.mechanisms.clipping import near_uniform, onto_simplex
from fedkd.privacy.noise import Stream

Floats = NDArray[np.float64]


def sensitivity(clip: float | None) -> float:
    """Return how far apart two parties' rows can be, in absolute sum."""
    return 2.0 if clip is None else min(2.0, 2 * clip)


def event(noise: float, clip: float | None, rows: int) -> Event:
    """Return what ``rows`` noisy rows cost; ``noise`` is the scale of an entry."""
    return Event("laplace", noise / sensitivity(clip), rows)


def noised(probs: Floats, noise: float, clip: float | None, stream: Stream) -> Floats:
    """Return noisy probabilities (rows, labels) on the simplex."""
    return onto_simplex(near_uniform(probs, clip, 1) + noise * stream.laplace(probs.shape))

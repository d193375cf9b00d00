"""Words with noisy document counts, and a threshold below which a word stays at home.

Proof. With one document more, at most ``cap`` counts rise by 1, so Laplace noise of scale cap/ε
costs ε on the words that both parties hold (Dwork et al. 2006). The other words, at most ``cap``,
have the count 1, and each passes T = 1 + (cap/ε) ln(cap / 2δ) with probability
½ exp(−(T − 1) ε/cap) = δ/cap: with at most δ the list shows any of them (Korolova et al., WWW 2009;
Gopi et al., ICML 2020). A higher threshold and rounding afterwards change nothing in this.
Sensitivity: cap in absolute sum. Event: ε, which is Laplace of 1/ε times that, and δ, once a list.
Unit: one document, added or removed.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedkd.privacy.accountant import Event
from fedkd.privacy.noise import Stream

NAME: Final = "laplace-threshold"
UNIT = "document"


def threshold(epsilon: float, delta: float, cap: int) -> float:
    """Return the least noisy count with which a word may leave, 1 or more."""
    return max(1.0, 1 + cap / epsilon * math.log(cap / (2 * delta)))


def event(epsilon: float, delta: float) -> Event:
    """Return what one list of words costs."""
    return Event(NAME, 1 / epsilon, delta=delta)


def noised(
    counts: NDArray[np.float64], epsilon: float, cap: int, stream: Stream
) -> NDArray[np.float64]:
    """Return counts (words,), each document counted for at most ``cap`` words, with noise."""
    return counts + cap / epsilon * stream.laplace(counts.shape)

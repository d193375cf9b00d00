"""Local PATE (Papernot et al. 2017, 2018): sub-teachers vote, and the votes are noised.

Proof. The party deals its rows to T sub-teachers by a hash of their text, so that adding or
removing one record changes one sub-teacher, and with it at most one vote of a query. Each query
releases the label with the most votes after Gaussian noise of deviation σ on every count (GNMax);
the label is post-processing of the noisy counts.
Sensitivity: √2 in Euclidean norm, where a vote moves from one label to another. Event: Gaussian of
deviation σ/√2 in units of that, once a query. Unit: one training record of the party.
The data-dependent figure (Theorem 6 and Proposition 7 of Papernot et al. 2018) is smaller where
the votes agree, but is itself computed from private votes: it is NOT PUBLISHABLE, and stays in the
party's folder.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp

from fedkd.privacy.accountant import Event
from fedkd.privacy.noise import Stream

Floats = NDArray[np.float64]
TEACHERS = 50


def event(noise: float, rows: int) -> Event:
    """Return what ``rows`` noisy votes of deviation ``noise`` (in votes) cost, data-independent."""
    return Event("gaussian", noise / math.sqrt(2), rows)


def shards(texts: Sequence[str], teachers: int, seed: int) -> NDArray[np.int64]:
    """Return each row's sub-teacher (n,), which depends on that row alone."""
    marks = (hashlib.sha256(f"{seed}\x1f{text}".encode()).digest()[:8] for text in texts)
    numbers = [int.from_bytes(mark, "big") % teachers for mark in marks]
    return np.array(numbers, np.int64)


def noisy_votes(shares: Floats, teachers: int, noise: float, stream: Stream) -> Floats:
    """Return each row's noisy winner, one-hot (rows, labels), of vote shares (rows, labels)."""
    counts = np.rint(shares * teachers) + noise * stream.normal(shares.shape)
    winners: Floats = np.eye(shares.shape[1])[counts.argmax(axis=1)]
    return winners


def log_other_winner(votes: Floats, noise: float) -> float:
    """Return an upper bound of ln Pr[the noisy winner is another label], votes (labels,).

    Proposition 7 of Papernot et al. 2018: q ≤ Σ_{i≠i*} ½ erfc((n_{i*} − n_i)/(2σ)).
    """
    winner = int(votes.argmax())
    gaps = np.delete(votes[winner] - votes, winner)
    # ½ erfc(x/2σ) is the normal tail beyond x/(√2 σ).
    bound = float(logsumexp(log_ndtr(-gaps / (math.sqrt(2) * noise))))
    return min(bound, math.log1p(-1 / len(votes)))


def dependent_rdp(log_q: float, noise: float, orders: Floats) -> Floats:
    """Return the data-dependent Renyi curve of one query at ``orders`` (above 1).

    Theorem 6 of Papernot et al. 2018 with the orders of its Proposition 10 (μ2 = σ√(ln 1/q),
    μ1 = μ2 + 1); never above the data-independent λ/σ². NOT PUBLISHABLE: it depends on the votes.
    """
    variance = noise**2
    plain: Floats = orders / variance
    if log_q == -math.inf:
        return np.zeros_like(plain)
    mu2 = math.sqrt(variance * -log_q)
    mu1 = mu2 + 1
    usable = (orders < mu1) & (mu2 > 1)
    high1, high2 = mu1 / variance, mu2 / variance
    if mu2 <= 1 or not usable.any() or -log_q <= high2:
        return plain
    limit = (mu2 - 1) * high2 - mu2 * (math.log1p(1 / (mu1 - 1)) + math.log1p(1 / (mu2 - 1)))
    if log_q > limit:
        return plain
    log_p = _log1mexp(log_q)
    log_a = (orders - 1) * (log_p - _log1mexp((log_q + high2) * (1 - 1 / mu2)))
    log_b = (orders - 1) * (high1 - log_q / (mu1 - 1))
    curve = np.logaddexp(log_p + log_a, log_q + log_b) / (orders - 1)
    return np.where(usable, np.minimum(plain, curve), plain)


def dependent_epsilon(votes: Floats, noise: float, delta: float) -> float:
    """Return the data-dependent epsilon of releasing all noisy winners of ``votes`` (rows, labels).

    NOT PUBLISHABLE, for the party's own eyes: publishing it would need smooth sensitivity.
    """
    orders = np.concatenate([np.arange(2, 64, 0.5), 2.0 ** np.arange(6, 13)])
    total = np.zeros_like(orders)
    for row in votes:
        total += dependent_rdp(log_other_winner(row, noise), noise, orders)
    return float((total + math.log(1 / delta) / (orders - 1)).min())


def _log1mexp(x: float) -> float:
    """Return ln(1 − e^x) for x below 0."""
    return math.log(-math.expm1(x)) if x > -math.log(2) else math.log1p(-math.exp(x))

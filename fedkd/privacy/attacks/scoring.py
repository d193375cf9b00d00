"""How well an attack tells members from non-members, with intervals that hold for few rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, norm, rankdata

from fedkd.seeds import numpy_generator

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
LEVELS = {"1pct": 0.01, "0.1pct": 0.001}
# A rate of false positives that rests on fewer rows than this says nothing.
FEWEST_FALSE = 10


@dataclass(frozen=True)
class TruePositives:
    """The share of members found where at most ``fpr`` of the non-members are taken for one."""

    fpr: float
    tpr: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What an attack reached: higher scores were to mean members.

    ``low`` and ``high`` bound the AUC; ``tpr`` holds a level only where ``fpr`` is at least
    10/n non-members, and ``floor`` is the smallest level that is. ``epsilon_lower`` is a lower
    confidence bound on epsilon at ``delta``.
    """

    auc: float
    low: float
    high: float
    members: int
    nonmembers: int
    tpr: dict[str, TruePositives | None]
    floor: TruePositives | None
    epsilon_lower: float
    delta: float

    def as_json(self) -> dict[str, Any]:
        """Return plain values under stable keys; a level that n is too small for is null."""
        values: dict[str, Any] = {"auc": self.auc, "low": self.low, "high": self.high}
        for name, level in self.tpr.items():
            values[f"tpr_at_{name}"] = None if level is None else level.tpr
            values[f"tpr_at_{name}_low"] = None if level is None else level.low
            values[f"tpr_at_{name}_high"] = None if level is None else level.high
        if self.floor is not None:
            values["tpr_at_floor"] = vars(self.floor)
        values |= {"n": min(self.members, self.nonmembers), "members": self.members}
        values |= {"nonmembers": self.nonmembers, "delta": self.delta}
        return values | {"epsilon_lower": self.epsilon_lower}


def judge(members: Floats, nonmembers: Floats, *, delta: float, seed: int) -> Verdict:
    """Return how well scores (m,) of members stand out from those (n,) of non-members.

    ``seed`` decides the halves of :func:`epsilon_lower`. Raises ValueError without rows on both
    sides or with scores that are not finite.
    """
    if not len(members) or not len(nonmembers):
        raise ValueError("Expected members and non-members, at least one of each")
    if not (np.isfinite(members).all() and np.isfinite(nonmembers).all()):
        raise ValueError("Expected finite scores")
    area = auc(members, nonmembers)
    low, high = auc_interval(area, len(members), len(nonmembers))
    floor = FEWEST_FALSE / len(nonmembers)
    return Verdict(
        auc=area,
        low=low,
        high=high,
        members=len(members),
        nonmembers=len(nonmembers),
        tpr={
            name: true_positives(members, nonmembers, fpr) if fpr >= floor else None
            for name, fpr in LEVELS.items()
        },
        floor=true_positives(members, nonmembers, floor) if floor < 1 else None,
        epsilon_lower=epsilon_lower(members, nonmembers, delta=delta, seed=seed),
        delta=delta,
    )


def auc(members: Floats, nonmembers: Floats) -> float:
    """Return P(member scores higher) + ½ P(both score alike)."""
    ranks = rankdata(np.concatenate([members, nonmembers]))
    m, n = len(members), len(nonmembers)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def auc_interval(area: float, members: int, nonmembers: int) -> tuple[float, float]:
    """Return the 95 % interval of an AUC (Newcombe, Statistics in Medicine 2006, method 5).

    It inverts the Hanley–McNeil variance at the bound itself, so that it does not shrink to a
    point where an attack is perfect.
    """
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    extra = (members + nonmembers) / 2 - 1

    def off(bound: float) -> float:
        spread = bound * (1 - bound) / (members * nonmembers)
        spread *= 1 + extra * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        return (area - bound) ** 2 - z * z * spread

    low = 0.0 if area <= 0 else float(brentq(off, 0.0, min(area, 1 - 1e-12)))
    high = 1.0 if area >= 1 else float(brentq(off, max(area, 1e-12), 1.0))
    return low, high


def clopper_pearson(
    hits: NDArray[np.int64] | int, trials: int, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Return the exact two-sided interval of a share (Clopper & Pearson 1934), (k,) and (k,)."""
    count = np.atleast_1d(np.asarray(hits, np.float64))
    tail = (1 - confidence) / 2
    low = np.where(count > 0, beta.ppf(tail, np.maximum(count, 1), trials - count + 1), 0.0)
    missed = np.maximum(trials - count, 1)
    high = np.where(count < trials, beta.ppf(1 - tail, count + 1, missed), 1.0)
    return low, high


def true_positives(members: Floats, nonmembers: Floats, fpr: float) -> TruePositives:
    """Return the share of members above the lowest threshold that lets through ``fpr``."""
    allowed = min(math.floor(fpr * len(nonmembers) + 1e-9), len(nonmembers) - 1)
    threshold = np.sort(nonmembers)[::-1][allowed]
    hits = int((members > threshold).sum())
    low, high = clopper_pearson(hits, len(members))
    return TruePositives(fpr, hits / len(members), float(low[0]), float(high[0]))


def epsilon_lower(members: Floats, nonmembers: Floats, *, delta: float, seed: int) -> float:
    """Return a 95 % lower bound on epsilon that any (ε, δ) promise to these rows must exceed.

    Under (ε, δ) differential privacy TPR ≤ e^ε FPR + δ and TNR ≤ e^ε FNR + δ, so the bound is
    ln((TPR − δ)/FPR) of the better of the two, with Clopper–Pearson ends (Jagielski et al.,
    NeurIPS 2020). The threshold is chosen on one half of the rows and the bound taken on the
    other. It treats rows as independent trials though one model was trained on all of them.
    """
    draw = numpy_generator(seed, "", 0, "halves of the epsilon bound")
    inside, outside = draw.permutation(members), draw.permutation(nonmembers)
    first, second = len(inside) // 2, len(outside) // 2
    if min(first, second) < 1:
        return 0.0
    cuts = np.unique(np.concatenate([inside[:first], outside[:second]]))
    found = _bounds(inside[:first], outside[:second], cuts, delta)
    side, place = divmod(int(found.argmax()), len(cuts))
    chosen = cuts[place : place + 1]
    bound = _bounds(inside[first:], outside[second:], chosen, delta)[side, 0]
    return max(0.0, float(bound))


def _bounds(members: Floats, nonmembers: Floats, cuts: Floats, delta: float) -> Floats:
    """Return the bounds (2, cuts): from those above a cut, and from those at or below it."""
    m, n = len(members), len(nonmembers)
    above = m - np.searchsorted(np.sort(members), cuts, side="right")
    wrong = n - np.searchsorted(np.sort(nonmembers), cuts, side="right")
    # Each end of a two-sided 95 % interval is missed 2.5 % of the time: 5 % for the two used.
    tpr_low, _ = clopper_pearson(above, m)
    _, fpr_high = clopper_pearson(wrong, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.log(np.maximum(tpr_low - delta, 0)) - np.log(fpr_high)
        down = np.log(np.maximum(1 - fpr_high - delta, 0)) - np.log(1 - tpr_low)
    both = np.stack([up, down])
    return np.where(np.isnan(both), -np.inf, both)

"""Laws of the audit's figures: planted memberships, intervals, levels and bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from fedkd.privacy.attacks.scoring import (
    auc,
    auc_interval,
    clopper_pearson,
    epsilon_lower,
    judge,
    true_positives,
)

DELTA = 1e-5


def draws(seed: int, n: int, shift: float = 0.0):
    generator = np.random.default_rng(seed)
    return generator.normal(shift, 1, n), generator.normal(0, 1, n)


def test_perfect_attack():
    verdict = judge(np.arange(1000.0, 2000), np.arange(1000.0), delta=DELTA, seed=0)
    assert verdict.auc == verdict.high == 1
    assert 0.99 < verdict.low < 1
    level = verdict.tpr["1pct"]
    assert level.tpr == level.high == 1 and level.low < 1
    # 500 of 500 on either side of the unseen half: ln of the two Clopper–Pearson ends.
    low, _ = clopper_pearson(500, 500)
    assert verdict.epsilon_lower == pytest.approx(math.log((low[0] - DELTA) / (1 - low[0])))


def test_attack_by_chance():
    covered = sum(
        judge(*draws(seed, 200), delta=DELTA, seed=seed).low
        <= 0.5
        <= judge(*draws(seed, 200), delta=DELTA, seed=seed).high
        for seed in range(100)
    )
    assert 88 <= covered <= 100
    bounds = [epsilon_lower(*draws(seed, 400), delta=DELTA, seed=seed) for seed in range(100)]
    assert sum(bound > 0 for bound in bounds) <= 10


def test_ties_count_half_and_constants_are_chance():
    assert auc(np.zeros(5), np.zeros(7)) == 0.5
    assert auc(np.array([1.0, 0.0]), np.array([0.0])) == 0.75
    verdict = judge(np.zeros(300), np.zeros(300), delta=DELTA, seed=0)
    assert verdict.epsilon_lower == 0
    assert verdict.floor.tpr == 0


def test_auc_forgets_scale_and_mirrors():
    inside, outside = draws(0, 300, 0.7)
    assert auc(inside, outside) == auc(np.exp(inside), np.exp(outside))
    assert auc(inside, outside) == pytest.approx(1 - auc(outside, inside))
    low, high = auc_interval(0.7, 300, 300)
    other = auc_interval(0.3, 300, 300)
    assert (low, high) == pytest.approx((1 - other[1], 1 - other[0]), abs=2e-3)
    assert np.ptp(auc_interval(0.7, 3000, 3000)) < np.ptp(auc_interval(0.7, 300, 300))


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 10), (10, 10), (17, 400)])
def test_clopper_pearson_is_exact(hits, trials):
    low, high = clopper_pearson(hits, trials)
    exact = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_no_level_below_ten_false_positives():
    verdict = judge(*draws(1, 999), delta=DELTA, seed=0)
    assert verdict.tpr == {"1pct": None, "0.1pct": None}
    assert verdict.floor.fpr == pytest.approx(10 / 999)
    values = verdict.as_json()
    assert values["tpr_at_1pct"] is None and values["n"] == 999
    assert judge(*draws(1, 1000), delta=DELTA, seed=0).tpr["1pct"] is not None
    assert judge(*draws(1, 8), delta=DELTA, seed=0).floor is None


def test_threshold_lets_through_no_more_than_its_level():
    inside, outside = draws(2, 2000, 1.0)
    level = true_positives(inside, outside, 0.01)
    threshold = np.sort(outside)[::-1][20]
    assert (outside > threshold).mean() <= 0.01
    assert level.tpr == (inside > threshold).mean()
    assert level.low < level.tpr < level.high


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_bound_on_epsilon_stays_below_a_mechanism_that_attains_it(epsilon):
    """Randomised response on the membership bit itself is exactly (epsilon, 0)."""
    kept = math.exp(epsilon) / (1 + math.exp(epsilon))
    bounds = {}
    for n in (500, 20_000):
        bounds[n] = [
            epsilon_lower(
                (generator.random(n) < kept).astype(float),
                (generator.random(n) >= kept).astype(float),
                delta=0.0,
                seed=seed,
            )
            for seed in range(60)
            for generator in [np.random.default_rng(seed)]
        ]
    assert sum(bound > epsilon for bound in bounds[500] + bounds[20_000]) <= 12
    assert np.mean(bounds[500]) < np.mean(bounds[20_000])
    assert np.mean(bounds[20_000]) > 0.85 * epsilon


def test_scores_must_be_finite_and_on_both_sides():
    with pytest.raises(ValueError, match="at least one"):
        judge(np.empty(0), np.zeros(3), delta=DELTA, seed=0)
    with pytest.raises(ValueError, match="finite"):
        judge(np.array([np.nan]), np.zeros(3), delta=DELTA, seed=0)

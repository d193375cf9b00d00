"""The sharpness control: the power that gives probabilities a wanted mean entropy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkd.methods.sharpness import match_entropy, mean_entropy, sharpen


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(4), 50)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.floats(0.05, 8.0), st.integers(0, 1000))
def test_the_power_that_was_applied_is_found(power: float, seed: int) -> None:
    probs = rows(seed)
    sharper = probs**power / (probs**power).sum(axis=1, keepdims=True)
    found = match_entropy(probs, mean_entropy(sharper))
    assert found.reached
    assert found.power == pytest.approx(power, rel=1e-4)
    np.testing.assert_allclose(found.probs, sharper, atol=1e-4)


def test_the_order_of_labels_is_kept_and_rows_sum_to_one() -> None:
    found = match_entropy(rows(), 0.3)
    assert found.entropy == pytest.approx(0.3, abs=1e-6)
    assert mean_entropy(found.probs) == found.entropy
    np.testing.assert_array_equal(found.probs.argsort(axis=1), rows().argsort(axis=1))
    np.testing.assert_allclose(found.probs.sum(axis=1), 1)


@pytest.mark.parametrize("entropy", [-1.0, 0.0, np.log(4) + 0.1])
def test_entropies_out_of_reach_give_the_closest_and_say_so(entropy: float) -> None:
    tied = np.vstack([rows(), [[0.5, 0.5, 0.0, 0.0]]])
    found = match_entropy(tied, entropy)
    assert not found.reached
    assert np.isfinite(found.probs).all()
    ends = [mean_entropy(sharpen(tied, power)) for power in (1e-3, 1e3)]
    closest = min(ends, key=lambda end: abs(end - entropy))
    assert found.entropy == pytest.approx(closest, abs=1e-3)


def test_entropy_counts_a_zero_as_nothing() -> None:
    assert mean_entropy(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])) == pytest.approx(
        np.log(2) / 2
    )


@pytest.mark.parametrize(
    ("probs", "entropy"), [(np.empty((0, 3)), 1.0), (np.ones(3) / 3, 1.0), (rows(), np.nan)]
)
def test_what_has_no_entropy_is_refused(probs: np.ndarray, entropy: float) -> None:
    with pytest.raises(ValueError, match=r"Expected .* Try "):
        match_entropy(probs, entropy)

"""Teacher weights: each scheme's formula, and the laws that all of them keep."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedkd.errors import ScenarioError
from fedkd.methods.weights import Scheme, teacher_weights

Floats = NDArray[np.float64]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
lawful = settings(max_examples=30, deadline=None, derandomize=True)


def drawn(seed: int, teachers: int = 4, rows: int = 6, labels: int = 5) -> tuple[Floats, ...]:
    draw = np.random.default_rng(seed)
    probs = draw.dirichlet(np.ones(labels), (teachers, rows)) + 1e-6
    bias = draw.dirichlet(np.ones(labels), teachers)
    sizes = draw.integers(1, 1000, teachers).astype(float)
    return probs / probs.sum(axis=2, keepdims=True), sizes, bias


@pytest.mark.parametrize(
    ("scheme", "formula"),
    [
        ("uniform", lambda p, n, b: 1.0),
        ("size", lambda p, n, b: n),
        ("confidence", lambda p, n, b: max(p)),
        ("bias", lambda p, n, b: sum((x - y) ** 2 for x, y in zip(p, b, strict=True)) ** 0.5),
        ("norm", lambda p, n, b: sum((x - 1 / len(p)) ** 2 for x in p) ** 0.5),
        ("entropy", lambda p, n, b: 1 + sum(x * np.log(x) for x in p) / np.log(len(p))),
        ("variance", lambda p, n, b: np.log(p).var()),
    ],
)
def test_each_scheme_is_its_formula(scheme: Scheme, formula: object) -> None:
    probs, sizes, bias = drawn(1)
    raw = teacher_weights(scheme, probs, sizes, bias, normalise=False)
    shares = teacher_weights(scheme, probs, sizes, bias)
    assert raw.dtype == np.float64
    for row in range(6):
        want = np.array([formula(probs[k, row], sizes[k], bias[k]) for k in range(4)])  # type: ignore[operator]
        np.testing.assert_allclose(shares[:, row], want / want.sum())
        np.testing.assert_allclose(raw[:, row], want / sizes.sum() if scheme == "size" else want)


@lawful
@given(st.sampled_from(SCHEMES), st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_weights_sum_to_one_and_follow_their_teachers(
    scheme: Scheme, seed: int, order: list[int]
) -> None:
    probs, sizes, bias = drawn(seed)
    weights = teacher_weights(scheme, probs, sizes, bias)
    assert weights.shape == (4, 6)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    moved = teacher_weights(scheme, probs[order], sizes[order], bias[order])
    np.testing.assert_allclose(moved, weights[order])


@lawful
@given(st.sampled_from(SCHEMES), st.integers(0, 2**32 - 1), st.permutations(range(5)))
def test_weights_do_not_depend_on_the_order_of_the_labels(
    scheme: Scheme, seed: int, order: list[int]
) -> None:
    probs, sizes, bias = drawn(seed)
    weights = teacher_weights(scheme, probs, sizes, bias)
    np.testing.assert_allclose(
        teacher_weights(scheme, probs[..., order], sizes, bias[:, order]), weights, rtol=1e-9
    )


@pytest.mark.parametrize("scheme", ["norm", "bias", "entropy", "variance", "size"])
def test_teachers_of_whom_none_counts_count_equally(scheme: Scheme) -> None:
    unsure = np.full((3, 2, 4), 0.25)
    weights = teacher_weights(scheme, unsure, np.zeros(3), np.full((3, 4), 0.25))
    np.testing.assert_allclose(weights, 1 / 3)


def test_a_sure_teacher_outweighs_an_unsure_one() -> None:
    probs = np.array([[[0.97, 0.01, 0.01, 0.01]], [[0.3, 0.3, 0.2, 0.2]]])
    for scheme in ("confidence", "norm", "entropy", "variance"):
        weights = teacher_weights(scheme, probs, np.ones(2))
        assert weights[0, 0] > weights[1, 0]


def test_bias_weights_need_bias_vectors_of_the_right_shape() -> None:
    probs, sizes, bias = drawn(2)
    with pytest.raises(ScenarioError, match="weights='bias'"):
        teacher_weights("bias", probs, sizes)
    with pytest.raises(ScenarioError, match=r"bias\.shape"):
        teacher_weights("bias", probs, sizes, bias[:2])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_single_label_gives_finite_weights(scheme: Scheme) -> None:
    weights = teacher_weights(scheme, np.ones((3, 2, 1)), np.ones(3), np.ones((3, 1)))
    np.testing.assert_allclose(weights, 1 / 3)


@lawful
@given(st.integers(0, 2**32), st.sampled_from(SCHEMES), st.integers(0, 3))
def test_a_missing_teacher_drops_out_and_the_rest_renormalise(
    seed: int, scheme: Scheme, gone: int
) -> None:
    probs, sizes, bias = drawn(seed)
    present = np.ones(probs.shape[:2], bool)
    present[gone, ::2] = False
    weights = teacher_weights(scheme, probs, sizes, bias, present=present)
    kept = np.delete(np.arange(4), gone)
    alone = teacher_weights(scheme, probs[kept], sizes[kept], bias[kept])
    assert (weights[gone, ::2] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose(weights[kept][:, ::2], alone[:, ::2], atol=1e-12)

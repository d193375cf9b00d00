"""Laws of debiased transport, of Gaussians and of barycentres."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkd.transport.barycentre import barycentre
from fedkd.transport.gaussian import gaussian_barycentre, gaussian_w2
from fedkd.transport.gibbs import gibbs_kernel
from fedkd.transport.sinkhorn import divergence
from tests.laws.test_transport_laws import Problem, problems

lawful = settings(max_examples=25, deadline=None, derandomize=True)
PRECISE = {"iterations": 20_000, "tolerance": 1e-11}


@lawful
@given(problems(zeros=False), st.sampled_from([1.0, 0.3, 0.1]))
def test_equal_marginals_are_no_distance_apart_once_debiased(
    problem: Problem, epsilon: float
) -> None:
    a, b, cost = problem
    gibbs = gibbs_kernel(cost, epsilon)
    leaf = a.clone().requires_grad_()
    same = divergence(leaf, a, gibbs, **PRECISE)  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad(same.sum(), leaf)
    assert float(same.detach().abs().max()) <= 1e-9
    assert float((slope - slope.mean(dim=1, keepdim=True)).abs().max()) <= 1e-6
    apart = divergence(a, b, gibbs, **PRECISE)  # type: ignore[arg-type]
    assert bool((apart >= -1e-9).all())
    torch.testing.assert_close(apart, divergence(b, a, gibbs, **PRECISE))  # type: ignore[arg-type]


@lawful
@given(problems(labels=5, zeros=False))
def test_the_debiased_gradient_equals_finite_differences(problem: Problem) -> None:
    a, b, cost = problem
    gibbs = gibbs_kernel(cost, 0.2)
    leaf = a.clone().requires_grad_()
    value = divergence(leaf, b, gibbs, **PRECISE)  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    move = torch.zeros_like(a)
    move[:, 0], move[:, 1] = 1e-6, -1e-6
    up = divergence(a + move, b, gibbs, **PRECISE)  # type: ignore[arg-type]
    down = divergence(a - move, b, gibbs, **PRECISE)  # type: ignore[arg-type]
    torch.testing.assert_close((up - down) / 2e-6, slope[:, 0] - slope[:, 1], atol=1e-5, rtol=1e-4)


@st.composite
def gaussians(draw: st.DrawFn) -> tuple[torch.Tensor, ...]:
    """Return means and spreads (teachers, d), weights (teachers,), and one more of each."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    teachers, width = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    parts = (
        generator.normal(size=(teachers, width)),
        generator.gamma(1.0, size=(teachers, width)),
        generator.dirichlet(np.ones(teachers)),
        generator.normal(size=width),
        generator.gamma(1.0, size=width),
    )
    return tuple(torch.as_tensor(part) for part in parts)


@lawful
@given(gaussians())
def test_distances_to_gaussians_are_one_distance_to_their_barycentre(
    drawn: tuple[torch.Tensor, ...],
) -> None:
    means, spreads, weights, mean, spread = drawn
    middle, width = gaussian_barycentre(means, spreads, weights)
    constant = (weights * gaussian_w2(middle, width, means, spreads)).sum()
    total = (weights * gaussian_w2(mean, spread, means, spreads)).sum()
    torch.testing.assert_close(total, gaussian_w2(mean, spread, middle, width) + constant)


@lawful
@given(problems(labels=6, zeros=False), st.integers(2, 4))
def test_the_barycentre_of_equal_teachers_is_what_they_alone_make(
    problem: Problem, teachers: int
) -> None:
    a, _, cost = problem
    weights = torch.as_tensor(np.random.default_rng(teachers).dirichlet(np.ones(teachers), len(a)))
    same = a[:, None].expand(-1, teachers, -1)
    together, _ = barycentre(same, weights, cost, 0.1, tolerance=1e-10)
    alone, _ = barycentre(a[:, None], weights[:, :1], cost, 0.1, tolerance=1e-10)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


@lawful
@given(problems(labels=5, zeros=False), st.randoms(use_true_random=False))
def test_permuting_the_labels_permutes_the_barycentre(problem: Problem, random: object) -> None:
    a, b, cost = problem
    order = list(range(len(cost)))
    random.shuffle(order)  # type: ignore[attr-defined]
    both = torch.stack([a, b], dim=1)
    half = torch.full((len(a), 2), 0.5)
    plain, _ = barycentre(both, half, cost, 0.2, tolerance=1e-10)
    moved, _ = barycentre(both[:, :, order], half, cost[order][:, order], 0.2, tolerance=1e-10)
    torch.testing.assert_close(moved, plain[:, order], atol=1e-7, rtol=1e-6)

"""Laws of entropic transport over random costs and distributions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedkd.transport.gibbs import gibbs_kernel
from fedkd.transport.linear_program import lp
from fedkd.transport.sinkhorn import Solution, sinkhorn, solve

Problem = tuple[Tensor, Tensor, Tensor]
lawful = settings(max_examples=25, deadline=None, derandomize=True)
PRECISE = {"iterations": 20_000, "tolerance": 1e-11}


@st.composite
def problems(draw: st.DrawFn, *, labels: int = 7, zeros: bool = True) -> Problem:
    """Return a, b (4, labels) and a cost of largest entry 1, all float64."""
    count = draw(st.integers(2, labels))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = generator.normal(size=(count, draw(st.integers(1, 3))))
    cost = np.linalg.norm(points[:, None] - points[None], axis=2)
    a, b = generator.dirichlet(np.full(count, 0.7), (2, 4)) + 1e-4
    if zeros and draw(st.booleans()):
        a[0, 1:] = 0
        b[1, :-1] = 0
    a, b = a / a.sum(axis=1, keepdims=True), b / b.sum(axis=1, keepdims=True)
    return torch.as_tensor(a), torch.as_tensor(b), torch.as_tensor(cost / cost.max())


def solved(problem: Problem, epsilon: float = 0.1) -> Solution:
    a, b, cost = problem
    return solve(a, b, gibbs_kernel(cost, epsilon), **PRECISE)  # type: ignore[arg-type]


def differentiated(problem: Problem, epsilon: float = 0.1) -> Tensor:
    """Return the gradient with respect to a within the simplex, (batch, labels)."""
    a, b, cost = problem
    leaf = a.clone().requires_grad_()
    (grad,) = torch.autograd.grad(
        sinkhorn(leaf, b, gibbs_kernel(cost, epsilon), **PRECISE).sum(),  # type: ignore[arg-type]
        leaf,
    )
    return grad - grad.mean(dim=1, keepdim=True)


def reference(problem: Problem, epsilon: float, steps: int = 3000) -> tuple[Tensor, Tensor]:
    """Return value and f of a plain float64 log-domain Sinkhorn, differentiable throughout."""
    a, b, cost = problem
    kernel, g = -cost / epsilon, torch.zeros_like(b)
    f = g
    for _ in range(steps):
        f = -epsilon * torch.logsumexp(kernel + (b.log() + g / epsilon)[:, None, :], dim=2)
        g = -epsilon * torch.logsumexp(kernel.T + (a.log() + f / epsilon)[:, None, :], dim=2)
    return (a * f).sum(dim=1) + (b * g).sum(dim=1), f - f.mean(dim=1, keepdim=True)


@lawful
@given(problems())
def test_value_and_gradient_equal_a_log_domain_reference(problem: Problem) -> None:
    value, f = reference(problem, 0.1)
    found = solved(problem)
    torch.testing.assert_close(found.value, value, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(found.f, f, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(differentiated(problem), f, atol=1e-7, rtol=1e-7)


@lawful
@given(problems(), st.sampled_from([0.3, 0.1, 0.05, 0.026]))
def test_float32_stays_close_to_float64(problem: Problem, epsilon: float) -> None:
    a, b, cost = problem
    exact = solve(a, b, gibbs_kernel(cost, epsilon), iterations=20_000, tolerance=1e-5)
    single = solve(
        a.float(), b.float(), gibbs_kernel(cost, epsilon), iterations=20_000, tolerance=1e-5
    )
    torch.testing.assert_close(single.value.double(), exact.value, atol=2e-5, rtol=1e-4)


@lawful
@given(problems(labels=5))
def test_the_value_bounds_the_linear_program_and_meets_it_as_epsilon_falls(
    problem: Problem,
) -> None:
    a, b, cost = problem
    exact = lp(a.numpy(), b.numpy(), cost.numpy())
    gaps = []
    for epsilon in (0.5, 0.1, 0.02, 0.005):
        found = solve(a, b, gibbs_kernel(cost, epsilon), iterations=5000, tolerance=1e-7)
        gaps.append(found.value.numpy() - exact)
        entropy = np.log(len(cost))
        assert (gaps[-1] <= epsilon * entropy + 1e-6).all()
        assert (gaps[-1] >= -1e-6).all()
    for larger, smaller in pairwise(gaps):
        assert (smaller <= larger + 1e-6).all()


@lawful
@given(problems(labels=5, zeros=False))
def test_the_gradient_is_that_of_the_linear_program_as_epsilon_falls(problem: Problem) -> None:
    a, b, cost = problem
    exact = lp(a.numpy(), b.numpy(), cost.numpy())
    found = solve(a, b, gibbs_kernel(cost, 0.005), iterations=20_000, tolerance=1e-7)
    # f is a subgradient of the exact cost at a, up to ε log K: LP(y) >= LP(a) + <f, y - a>.
    other = torch.roll(a, 1, dims=0)
    linear = exact + ((other - a) * found.f).sum(dim=1).numpy()
    moved = lp(other.numpy(), b.numpy(), cost.numpy())
    assert (moved >= linear - 0.005 * 2 * np.log(len(cost)) - 1e-6).all()


@lawful
@given(problems(labels=5, zeros=False))
def test_the_gradient_equals_finite_differences(problem: Problem) -> None:
    a, b, cost = problem
    gradient = differentiated(problem)
    step = 1e-6
    for label in range(a.shape[1] - 1):
        move = torch.zeros_like(a)
        move[:, label], move[:, label + 1] = step, -step
        up, down = solved((a + move, b, cost)).value, solved((a - move, b, cost)).value
        slope = gradient[:, label] - gradient[:, label + 1]
        torch.testing.assert_close((up - down) / (2 * step), slope, atol=1e-5, rtol=1e-4)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(problems(labels=5, zeros=False))
def test_the_envelope_gradient_equals_unrolled_autograd(problem: Problem) -> None:
    a, b, cost = problem
    leaf = a.clone().requires_grad_()
    value, _ = reference((leaf, b, cost), 0.1, steps=1000)
    (unrolled,) = torch.autograd.grad(value.sum(), leaf)
    unrolled -= unrolled.mean(dim=1, keepdim=True)
    torch.testing.assert_close(differentiated(problem), unrolled, atol=1e-6, rtol=1e-6)


@lawful
@given(problems())
def test_transport_is_symmetric(problem: Problem) -> None:
    a, b, cost = problem
    there, back = solved(problem), solved((b, a, cost))
    torch.testing.assert_close(there.value, back.value, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(there.transport_cost, back.transport_cost, atol=1e-8, rtol=1e-8)


@lawful
@given(problems(), st.randoms(use_true_random=False))
def test_permuting_the_labels_permutes_the_potentials(problem: Problem, random: object) -> None:
    a, b, cost = problem
    order = list(range(len(cost)))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain, moved = solved(problem), solved((a[:, order], b[:, order], cost[order][:, order]))
    torch.testing.assert_close(moved.value, plain.value, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(moved.f, plain.f[:, order], atol=1e-8, rtol=1e-8)


@lawful
@given(problems(), st.floats(0.01, 100))
def test_scaling_cost_and_epsilon_scales_value_and_gradient(problem: Problem, scale: float) -> None:
    a, b, cost = problem
    plain, scaled = solved(problem, 0.1), solved((a, b, cost * scale), 0.1 * scale)
    torch.testing.assert_close(scaled.value / scale, plain.value, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(scaled.f / scale, plain.f, atol=1e-8, rtol=1e-8)


@lawful
@given(problems(zeros=False), st.floats(0, 1))
def test_the_value_is_convex_in_its_target(problem: Problem, share: float) -> None:
    """OT(s, Σ w p) <= Σ w OT(s, p): why the mixture objective lies below the sum."""
    a, b, cost = problem
    other = torch.roll(b, 1, dims=0)
    apart = share * solved(problem).value + (1 - share) * solved((a, other, cost)).value
    together = solved((a, share * b + (1 - share) * other, cost)).value
    assert bool((together <= apart + 1e-9).all())

"""The compiled solver: the same bits in any company, and the same answer as torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedkd.transport import sinkhorn as module
from fedkd.transport.gibbs import gibbs_kernel
from fedkd.transport.sinkhorn import potentials, solve

pytest.importorskip("numba")


def problem(seed: int, count: int, labels: int, teachers: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(labels, 3))
    cost = np.linalg.norm(points[:, None] - points[None], axis=2)
    a = draw.dirichlet(np.full(labels, 0.3), count)
    b = draw.dirichlet(np.full(labels, 0.3), count * teachers) + 1e-6
    return (
        torch.as_tensor(a, dtype=torch.float32),
        torch.as_tensor(b / b.sum(axis=1, keepdims=True), dtype=torch.float32),
        torch.as_tensor(cost / cost.max()),
    )


@pytest.mark.parametrize("labels", [3, 8, 9, 17, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_answer_is_the_same_bit_for_bit_in_any_company(labels: int, dtype: torch.dtype) -> None:
    a, b, cost = (x.to(dtype) for x in problem(labels, 100, labels))
    gibbs = gibbs_kernel(cost, 0.08)
    together = potentials(a, b, gibbs, 1000, 1e-5)
    again = potentials(a, b, gibbs, 1000, 1e-5)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))[:37]
    apart = potentials(a[order], b[order], gibbs, 1000, 1e-5)
    for name, part in vars(together).items():
        assert torch.equal(part, getattr(again, name))
        assert torch.equal(part[order], getattr(apart, name))


@pytest.mark.parametrize("labels", [3, 8, 20, 60])
@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.03])
def test_it_agrees_with_torch(labels: int, epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, cost = (x.double() for x in problem(labels + 1, 40, labels))
    a, b = a / a.sum(dim=1, keepdim=True), b / b.sum(dim=1, keepdim=True)
    gibbs = gibbs_kernel(cost, epsilon)
    fast = solve(a, b, gibbs, iterations=50_000, tolerance=1e-10)
    monkeypatch.setattr(module, "solve_compiled", None)
    slow = solve(a, b, gibbs, iterations=50_000, tolerance=1e-10)
    assert bool(fast.converged.all())
    assert int(fast.iterations.sum()) <= int(slow.iterations.sum()) + 10 * len(a)
    torch.testing.assert_close(fast.value, slow.value, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(fast.transport_cost, slow.transport_cost, atol=1e-8, rtol=1e-8)


def test_a_student_shared_by_several_teachers_is_not_repeated() -> None:
    a, b, cost = problem(5, 30, 7, teachers=4)
    gibbs = gibbs_kernel(cost, 0.1)
    shared = potentials(a, b, gibbs, 500, 1e-4)
    repeated = potentials(a.repeat_interleave(4, dim=0), b, gibbs, 500, 1e-4)
    assert torch.equal(shared.f, repeated.f)
    assert torch.equal(shared.g, repeated.g)


def test_the_bound_on_the_steps_is_kept_and_told() -> None:
    a, b, cost = problem(7, 64, 6)
    for bound in (1, 2, 3, 10, 12):
        found = solve(a, b, gibbs_kernel(cost, 0.05), iterations=bound, tolerance=1e-7)
        assert int(found.iterations.max()) <= bound
        assert torch.equal(found.converged, found.marginal_error <= 1e-7)


@pytest.mark.parametrize("epsilon", [3.0, 0.3, 0.05, 0.01, 1e-3, 1e-5])
def test_two_labels_are_solved_exactly(epsilon: float) -> None:
    a, b, _ = (x.double() for x in problem(8, 200, 2))
    a[:3], b[2:5], a[5] = torch.tensor([1.0, 0]), torch.tensor([0, 1.0]), b[5]
    a, b = a / a.sum(dim=1, keepdim=True), b / b.sum(dim=1, keepdim=True)
    cost = torch.tensor([[0.0, 2.0], [1.0, 0.0]]).double()
    found = solve(a, b, gibbs_kernel(cost, epsilon))
    for part in (found.value, found.f, found.g, found.transport_cost):
        assert bool(torch.isfinite(part).all())
    # One entry decides the plan: its marginals hold, and the cost is that of the plan.
    least = (a[:, 0] - b[:, 0]).clamp(min=0) * 2 + (b[:, 0] - a[:, 0]).clamp(min=0)
    assert bool((found.transport_cost >= least - 1e-9).all())
    assert bool((found.value >= least - 1e-9).all())
    assert bool((found.value <= least + epsilon * np.log(2) + 1e-9).all())

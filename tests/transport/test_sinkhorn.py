"""Sinkhorn: refusals, edge cases, and what the backward pass keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedkd.transport.gibbs import gibbs_kernel
from fedkd.transport.path import Entropic
from fedkd.transport.sinkhorn import sinkhorn, solve

COST = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 1.5], [3.0, 1.5, 0.0]]) / 3
EPSILONS = [0.5, 0.05, 0.015, 0.002]  # float32 kernel, float32, float64, log domain


def rows(seed: int, count: int, labels: int = 3) -> Tensor:
    drawn = np.random.default_rng(seed).dirichlet(np.ones(labels), count)
    return torch.as_tensor(drawn, dtype=torch.float32)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_without_mass_leave_everything_finite(epsilon: float, dtype: torch.dtype) -> None:
    a = torch.tensor([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype=dtype)
    b = torch.tensor([[0, 0, 1], [0, 1, 0], [0, 0.5, 0.5], [1, 0, 0]], dtype=dtype)
    found = solve(a, b, gibbs_kernel(COST, epsilon), iterations=1000)
    for part in (found.value, found.transport_cost, found.f, found.g, found.marginal_error):
        assert part.dtype == dtype
        assert bool(torch.isfinite(part).all())
    # Between point masses there is one plan only, whatever ε is.
    sure = torch.tensor([0, 1, 3])
    exact = torch.tensor([1.0, 0.0, 1.0], dtype=dtype)
    torch.testing.assert_close(found.value[sure], exact, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.transport_cost[sure], exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_a_student_that_rules_labels_out_keeps_a_finite_gradient(epsilon: float) -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0], [0.0, 0.0, 0.0]], requires_grad=True)
    b = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    value = sinkhorn(torch.softmax(logits, dim=1), b, gibbs_kernel(COST, epsilon))
    value.sum().backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert bool(torch.isfinite(value).all())


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_an_empty_batch_gives_empty_answers_and_a_gradient(epsilon: float) -> None:
    a = torch.empty(0, 3, requires_grad=True)
    value = sinkhorn(a, torch.empty(0, 3), gibbs_kernel(COST, epsilon))
    value.sum().backward()
    assert value.shape == (0,)
    assert a.grad is not None
    assert a.grad.shape == (0, 3)
    assert solve(a.detach(), torch.empty(0, 3), gibbs_kernel(COST, epsilon)).unconverged == 0


def test_a_single_label_costs_exactly_nothing() -> None:
    found = solve(torch.ones(4, 1), torch.ones(4, 1), gibbs_kernel(torch.zeros(1, 1), 0.05))
    assert found.value.tolist() == [0.0] * 4
    assert found.transport_cost.tolist() == [0.0] * 4
    assert found.f.tolist() == [[0.0]] * 4
    assert bool(found.converged.all())


def test_instances_that_stop_early_are_counted() -> None:
    a, b = rows(1, 300), rows(2, 300)
    gibbs = gibbs_kernel(COST, 0.05)
    found = solve(a, b, gibbs, iterations=10, tolerance=1e-4)
    assert 0 < found.unconverged < 300
    assert torch.equal(found.converged, found.marginal_error <= 1e-4)
    assert int(found.iterations.max()) == 10
    transport = Entropic(gibbs, iterations=10, tolerance=1e-4)
    transport.total(a, transport.prepare(b)[:, None], torch.ones(300, 1), torch.arange(300))
    assert (transport.tally.solved, transport.tally.unconverged) == (300, found.unconverged)


def test_the_tolerance_is_the_error_of_the_plan_that_is_returned() -> None:
    a, b = rows(3, 64).double(), rows(4, 64).double()
    gibbs = gibbs_kernel(COST, 0.05)
    found = solve(a, b, gibbs, iterations=5000, tolerance=1e-6)
    plan = a[:, :, None] * b[:, None, :]
    plan *= ((found.f[:, :, None] + found.g[:, None, :] - gibbs.cost) / 0.05).exp()
    assert bool(found.converged.all())
    assert float((plan.sum(dim=2) - a).abs().sum(dim=1).max()) <= 1e-12
    assert float((plan.sum(dim=1) - b).abs().sum(dim=1).max()) <= 1e-6


def test_the_kernel_and_the_log_domain_agree() -> None:
    # Sums that differ by float32's rounding would bound the marginal error from below.
    a, b = (x.double() / x.double().sum(dim=1, keepdim=True) for x in (rows(9, 50), rows(10, 50)))
    gibbs = gibbs_kernel(COST, 0.05)
    kernel = solve(a, b, gibbs, iterations=5000, tolerance=1e-10)
    logs = solve(a, b, replace(gibbs, double=None), iterations=5000, tolerance=1e-10)
    assert bool(logs.converged.all())
    torch.testing.assert_close(logs.value, kernel.value, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(logs.f, kernel.f, atol=1e-8, rtol=1e-8)


def test_rows_that_leave_the_range_of_a_kernel_are_solved_again() -> None:
    a, b = rows(11, 40), torch.eye(3)[torch.arange(40) % 3]
    steep = gibbs_kernel(COST, 0.002)
    underflown = replace(steep, single=torch.exp(-steep.cost / 0.002).float())
    found, expected = solve(a, b, underflown), solve(a, b, steep)
    assert bool(torch.isfinite(found.f).all())
    torch.testing.assert_close(found.value, expected.value)


def test_the_answer_of_an_instance_does_not_depend_on_its_company() -> None:
    a, b = rows(5, 5000), rows(6, 5000)
    gibbs = gibbs_kernel(COST, 0.05)
    together = solve(a, b, gibbs)
    for i in (0, 17, 4095, 4096, 4999):
        alone = solve(a[i : i + 1], b[i : i + 1], gibbs)
        assert int(alone.iterations) == int(together.iterations[i])
        torch.testing.assert_close(alone.f[0], together.f[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("iterations", [20, 400])
def test_the_backward_pass_keeps_the_potentials_alone(iterations: int) -> None:
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    a = rows(7, 64).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sinkhorn(a, rows(8, 64), gibbs_kernel(COST, 0.02), iterations=iterations, tolerance=1e-9)
    assert sum(kept) <= 2 * a.numel()


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        (torch.full((2, 3), 0.5), rows(1, 2), "sum - 1"),
        (torch.tensor([[1.5, -0.5, 0.0]]), rows(1, 1), "smallest value"),
        (torch.full((2, 3), float("nan")), rows(1, 2), "smallest value"),
        (rows(1, 2), torch.full((2, 3), float("nan")), "b: smallest value"),
        (rows(1, 2), rows(1, 3), "b.shape"),
        (rows(1, 2, labels=4), rows(1, 2, labels=4), "a.shape"),
        (rows(1, 1)[0], rows(1, 1)[0], "a.shape"),
        (rows(1, 2).half(), rows(1, 2).half(), "a.dtype='torch.float16'"),
        (rows(1, 2), rows(1, 2).double(), "b.dtype"),
        (rows(1, 2), rows(1, 2).requires_grad_(), "b.requires_grad"),
    ],
)
def test_rows_that_are_no_distributions_are_refused(a: Tensor, b: Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=r"Expected .* Try ") as refused:
        sinkhorn(a, b, gibbs_kernel(COST, 0.05))
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("cost", "epsilon", "word"),
    [
        (COST, 0.0, "epsilon=0.0"),
        (COST, -1.0, "epsilon"),
        (COST, float("nan"), "epsilon"),
        (COST, float("inf"), "epsilon"),
        (COST[:2], 0.05, "cost.shape"),
        (COST[0], 0.05, "cost.shape"),
        (COST * float("nan"), 0.05, "finite"),
        (-COST, 0.05, "non-negative"),
    ],
)
def test_costs_and_epsilons_that_make_no_kernel_are_refused(
    cost: Tensor, epsilon: float, word: str
) -> None:
    with pytest.raises(ValueError, match=r"Expected .* Try ") as refused:
        gibbs_kernel(cost, epsilon)
    assert word in str(refused.value)

"""The ten exact checks of KNOT, each against its closed form or an independent computation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkd.intake import Intake
from fedkd.methods.baselines import CrossEntropy, LogitAverage, SymmetricKl
from fedkd.methods.knot import Knot
from fedkd.methods.method import Method
from fedkd.methods.weights import teacher_weights
from fedkd.metrics.scores import score
from fedkd.scenario import Geometry, Labels
from fedkd.transport.barycentre import barycentre
from fedkd.transport.geomloss_compat import geomloss_cost, geomloss_schedule, geomloss_solve
from fedkd.transport.gibbs import gibbs_kernel
from fedkd.transport.ground_cost import LabelSpace, label_space
from fedkd.transport.linear_program import lp
from fedkd.transport.path import Transport, choose_path
from fedkd.transport.sinkhorn import sinkhorn, solve

Floats = NDArray[np.float64]
STARS = ("1", "2", "3", "4", "5")
SCORES = (-2.0, -1.0, 0.0, 1.0, 2.0)


def stars(geometry: Geometry, *, normalise: bool = True) -> LabelSpace:
    return label_space(
        Labels(geometry=geometry, values=SCORES, normalise=normalise),  # type: ignore[call-arg]
        STARS,
    )


def dirichlet(seed: int, *shape: int, concentration: float = 0.7) -> Floats:
    *batch, labels = shape
    return np.random.default_rng(seed).dirichlet(np.full(labels, concentration), batch)


def trained(method: Method, intake: Intake, space: LabelSpace, steps: int = 1500) -> Floats:
    """Fit one free row of logits per transfer row, to where the step size has gone to 0."""
    targets = method.targets(intake, space)
    logits = torch.zeros(intake.rows, intake.labels, requires_grad=True)
    rows = torch.arange(intake.rows)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        method.loss(logits, targets, rows).backward()
        optimizer.step()
    return np.asarray(torch.softmax(logits.detach().double(), dim=1).numpy())


def mean_total_variation(a: Floats, b: Floats) -> float:
    return float(np.abs(a - b).sum(axis=-1).mean() / 2)


def test_u1_on_a_line_the_transport_cost_is_the_area_between_cdfs() -> None:
    cost = torch.as_tensor(stars("ordinal").cost)
    a, b = torch.as_tensor(dirichlet(1, 64, 5)), torch.as_tensor(dirichlet(2, 64, 5))
    found = solve(a, b, gibbs_kernel(cost, 0.02), iterations=500, tolerance=1e-9)
    area = (a - b).cumsum(dim=1).abs()[:, :-1].sum(dim=1) / 4
    assert float(found.transport_cost.sum()) == pytest.approx(float(area.sum()), rel=0.01)


def each(transport: Transport, a: Tensor, b: Tensor) -> Tensor:
    """Return the transport of every pair of rows."""
    ends, share = transport.prepare(b)[:, None], torch.ones(1, 1)
    return torch.stack(
        [
            transport.total(a[i : i + 1], ends[i : i + 1], share, torch.arange(1))
            for i in range(len(a))
        ]
    )


def test_u2_with_one_hot_labels_transport_is_root_two_total_variation() -> None:
    space = stars("onehot", normalise=False)
    a, b = torch.as_tensor(dirichlet(1, 64, 5)), torch.as_tensor(dirichlet(2, 64, 5))
    transport = choose_path(space)
    values = each(transport, a, b)
    expected = math.sqrt(2) * (a - b).abs().sum(dim=1) / 2
    torch.testing.assert_close(values, expected)
    np.testing.assert_allclose(values, lp(a.numpy(), b.numpy(), space.cost), rtol=1e-9)


def test_u3_the_logit_gradient_is_that_of_the_converged_dual() -> None:
    gibbs = gibbs_kernel(torch.as_tensor(stars("hybrid").cost), 0.05)
    logits = torch.as_tensor(np.random.default_rng(3).normal(size=(8, 5))).requires_grad_()
    b = torch.as_tensor(dirichlet(4, 8, 5))

    def total(z: torch.Tensor) -> torch.Tensor:
        s = torch.softmax(z, dim=1)
        return sinkhorn(s, b, gibbs, iterations=20_000, tolerance=1e-12).sum()

    total(logits).backward()
    s = torch.softmax(logits.detach(), dim=1)
    f = solve(s, b, gibbs, iterations=20_000, tolerance=1e-12).f
    formula = s * (f - (s * f).sum(dim=1, keepdim=True))
    step, differences = 1e-4, torch.zeros_like(formula)
    for i in range(8):
        for j in range(5):
            moved = torch.zeros_like(formula)
            moved[i, j] = step
            up, down = total(logits.detach() + moved), total(logits.detach() - moved)
            differences[i, j] = (up - down) / (2 * step)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, formula)
    assert float((formula - differences).norm() / differences.norm()) < 1e-3


@pytest.mark.parametrize("geometry", ["ordinal", "hybrid", "onehot"])
@pytest.mark.parametrize(
    "method",
    [
        Knot(),
        Knot(objective="mixture"),
        Knot(objective="barycentre"),
        Knot(solver="sinkhorn"),
        Knot(solver="geomloss_compat"),
        Knot(cross_entropy=0.1),
        CrossEntropy(),
        SymmetricKl(),
        LogitAverage(),
        LogitAverage(temperature=2.0),
    ],
    ids=lambda method: f"{method.key}-{getattr(method, 'solver', '')}",
)
def test_u4_one_teacher_is_learnt_by_every_loss(
    method: Method, geometry: Geometry, make_intake: Callable[..., Intake]
) -> None:
    teacher = dirichlet(5, 1, 24, 5, concentration=1.0)
    found = trained(method, make_intake(teacher), stars(geometry), steps=600)
    assert mean_total_variation(found, teacher[0]) < 0.01


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Knot(weights="uniform"), (1.0, 0.0, 0.0, 0.0, 0.0)),
        (Knot(weights="uniform", objective="mixture"), (2 / 3, 0.0, 0.0, 0.0, 1 / 3)),
        (CrossEntropy(weights="uniform"), (2 / 3, 0.0, 0.0, 0.0, 1 / 3)),
    ],
    ids=lambda value: getattr(value, "key", ""),
)
def test_u5_the_sum_takes_the_median_teacher_and_the_mixture_all(
    method: Method, expected: tuple[float, ...], make_intake: Callable[..., Intake]
) -> None:
    sure = np.eye(5)[[0, 0, 4]][:, None]
    found = trained(method, make_intake(sure), stars("ordinal"))
    assert mean_total_variation(found, np.array([expected])) < 0.01


def test_u6_size_weights_are_those_of_the_published_code() -> None:
    sizes = np.array([133574.0, 194740.0, 116666.0, 397917.0])
    weights = teacher_weights("size", dirichlet(6, 4, 3, 5), sizes)
    assert weights.shape == (4, 3)
    for row in weights.T:
        np.testing.assert_allclose(row, (0.158, 0.231, 0.138, 0.472), atol=5e-4)


@pytest.mark.parametrize("geometry", ["ordinal", "hybrid", "onehot"])
def test_u7_geomloss_is_reproduced(geometry: Geometry) -> None:
    geomloss = pytest.importorskip("geomloss")
    points = torch.as_tensor(stars(geometry, normalise=False).points, dtype=torch.float32)
    a = torch.as_tensor(dirichlet(7, 256, 5), dtype=torch.float32).requires_grad_()
    b = torch.as_tensor(dirichlet(8, 256, 5), dtype=torch.float32)
    oracle = geomloss.SamplesLoss(
        "sinkhorn", p=1, blur=0.001, debias=False, reach=None, backend="tensorized"
    )
    support = points.expand(256, *points.shape).contiguous()
    expected = oracle(a, support, b, support)
    (gradient,) = torch.autograd.grad(expected.sum(), a)
    f, value = geomloss_solve(a.detach(), b, geomloss_cost(points), geomloss_schedule(points))
    torch.testing.assert_close(value, expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(f, gradient, atol=1e-5, rtol=1e-5)


def test_u7_geomloss_is_a_quarter_below_the_optimum() -> None:
    space = stars("hybrid", normalise=False)
    a, b = dirichlet(9, 2000, 5), dirichlet(10, 2000, 5)
    transport = choose_path(space, solver="geomloss_compat")
    student, teacher = torch.as_tensor(a), torch.as_tensor(b)
    values = each(transport, student, teacher).numpy()
    shortfall = 1 - values / lp(a, b, space.cost)
    assert shortfall.mean() == pytest.approx(0.24, abs=0.02)


def test_u8_semantic_distance_is_blind_where_transport_is_not() -> None:
    space = stars("ordinal", normalise=False)
    torn = np.array([[0.5, 0.0, 0.0, 0.0, 0.5]])
    scores = score(torn, np.array([2]), space.cost, space.coordinates)
    assert scores.semantic_distance == pytest.approx(0.0)
    assert scores.w1 == pytest.approx(2.0)


def test_u9_the_hybrid_cost_is_that_of_the_published_code() -> None:
    row = stars("hybrid", normalise=False).cost[0]
    np.testing.assert_allclose(row, (0, 1.732, 2.449, 3.317, 4.243), atol=5e-4)


@pytest.mark.parametrize("geometry", ["ordinal", "hybrid"])
@pytest.mark.parametrize("solver", ["auto", "sinkhorn", "geomloss_compat"])
def test_u10_permuting_the_labels_permutes_everything(
    geometry: Geometry, solver: str, make_intake: Callable[..., Intake]
) -> None:
    order = np.array([3, 0, 4, 2, 1])
    probs, logits = dirichlet(11, 3, 6, 5), np.random.default_rng(12).normal(size=(6, 5))
    method = Knot(solver=solver, weights="entropy")  # type: ignore[arg-type]
    results = []
    for index in (np.arange(5), order):
        space = label_space(
            Labels(geometry=geometry, values=tuple(np.array(SCORES)[index])),  # type: ignore[call-arg]
            [STARS[i] for i in index],
        )
        targets = method.targets(make_intake(probs[..., index]), space)
        z = torch.as_tensor(logits[:, index]).requires_grad_()
        loss = method.loss(z, targets, torch.arange(6))
        loss.backward()
        assert z.grad is not None
        middle, _ = barycentre(
            torch.as_tensor(probs[..., index].transpose(1, 0, 2)),
            torch.full((6, 3), 1 / 3),
            torch.as_tensor(space.cost),
            0.05,
        )
        results.append((loss.detach(), z.grad, targets.weights, middle))
    (loss, grad, weights, middle), (loss_, grad_, weights_, middle_) = results
    torch.testing.assert_close(loss_, loss, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(grad_, grad[:, order], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(weights_, weights)
    torch.testing.assert_close(middle_, middle[:, order])

"""Wasserstein barycentres against POT and their laws."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from fedkd.errors import ScenarioError
from fedkd.transport.barycentre import barycentre

LINE = (torch.linspace(0, 1, 6)[:, None] - torch.linspace(0, 1, 6)).abs().double()


def drawn(seed: int, rows: int, teachers: int, labels: int) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    probs = draw.dirichlet(np.ones(labels), (rows, teachers))
    return torch.as_tensor(probs), torch.as_tensor(draw.dirichlet(np.ones(teachers), rows))


@pytest.mark.parametrize("epsilon", [0.5, 0.05])
def test_weighted_barycentres_equal_those_of_pot(epsilon: float) -> None:
    probs, weights = drawn(1, 12, 4, 6)
    found, restless = barycentre(probs, weights, LINE, epsilon, tolerance=1e-9)
    assert restless == 0
    for p, w, q in zip(probs, weights, found, strict=True):
        # POT's default method does not converge to the barycentre of unequal weights.
        expected = ot.bregman.barycenter(
            p.T.numpy(),
            LINE.numpy(),
            epsilon,
            weights=w.numpy(),
            method="sinkhorn_stabilized",
            numItermax=20_000,
            stopThr=1e-13,
        )
        np.testing.assert_allclose(q, expected, atol=1e-7)


def test_equal_teachers_have_themselves_as_barycentre_as_epsilon_falls() -> None:
    probs, weights = drawn(2, 20, 3, 6)
    same = probs[:, :1].expand_as(probs)
    gaps = [
        float((barycentre(same, weights, LINE, e)[0] - same[:, 0]).abs().sum(dim=1).max())
        for e in (0.2, 0.05, 0.02)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3


def test_all_weight_on_one_teacher_ignores_the_others() -> None:
    probs, _ = drawn(3, 10, 3, 6)
    alone = torch.tensor([0.0, 1.0, 0.0]).double().expand(10, 3)
    found, _ = barycentre(probs, alone, LINE, 0.1)
    single, _ = barycentre(probs[:, 1:2], torch.ones(10, 1), LINE, 0.1)
    torch.testing.assert_close(found, single, atol=1e-6, rtol=1e-5)


def test_the_barycentre_of_two_point_masses_lies_between_them() -> None:
    ends = torch.eye(6, dtype=torch.float64)[[0, 4]][None]
    found, _ = barycentre(ends, torch.full((1, 2), 0.5), LINE**2, 0.02, iterations=5000)
    assert int(found.argmax()) == 2
    assert float((found * torch.arange(6)).sum()) == pytest.approx(2, abs=1e-3)


def test_rows_are_independent_and_may_be_absent() -> None:
    probs, weights = drawn(4, 8, 3, 6)
    together, _ = barycentre(probs, weights, LINE, 0.05)
    alone, _ = barycentre(probs[3:4], weights[3:4], LINE, 0.05)
    torch.testing.assert_close(together[3:4], alone)
    nothing, restless = barycentre(probs[:0], weights[:0], LINE, 0.05)
    assert (nothing.shape, restless) == ((0, 6), 0)


def test_rows_that_do_not_settle_are_counted_and_a_tiny_epsilon_is_refused() -> None:
    probs, weights = drawn(5, 8, 3, 6)
    _, restless = barycentre(probs, weights, LINE, 0.05, iterations=2, tolerance=1e-12)
    assert restless == 8
    for epsilon in (0.0, 1e-4):
        with pytest.raises(ScenarioError, match="epsilon"):
            barycentre(probs, weights, LINE, epsilon)

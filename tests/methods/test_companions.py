"""What DKD and DIST are for two labels, and for more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedkd.methods.companions import Dist, Dkd, pearson
from fedkd.methods.kd import Kd
from fedkd.scenario import Labels
from fedkd.transport.ground_cost import label_space

ROWS = 50


def setting(make_intake, labels: int):
    draw = np.random.default_rng(0)
    intake = make_intake(draw.dirichlet(np.ones(labels), (2, ROWS)))
    space = label_space(Labels(), [str(i) for i in range(labels)])
    logits = torch.tensor(draw.normal(size=(ROWS, labels)), requires_grad=True)
    return intake, space, logits


def gradient(method, intake, space, logits):
    loss = method.loss(logits, method.targets(intake, space), torch.arange(ROWS))
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("rest", [0.0, 1.0, 8.0])
def test_for_two_labels_decoupled_distillation_is_plain(make_intake, rest):
    intake, space, logits = setting(make_intake, 2)
    ours = gradient(Dkd(rest_share=rest), intake, space, logits)
    plain = gradient(Kd(temperature=4), intake, space, logits)
    assert abs(ours - plain).max().item() < 1e-8


def test_for_more_labels_it_depends_on_the_rest_and_has_the_same_optimum(make_intake):
    intake, space, logits = setting(make_intake, 4)
    first, second = (gradient(Dkd(rest_share=b), intake, space, logits) for b in (1.0, 8.0))
    assert abs(first - second).max().item() > 1e-3
    best = Dkd().targets(intake, space).probs.double().log().requires_grad_()
    assert abs(gradient(Dkd(), intake, space, best)).max().item() < 1e-6


def test_for_two_labels_the_rows_of_dist_teach_nothing(make_intake):
    intake, space, logits = setting(make_intake, 2)
    rows = gradient(Dist(column_share=0), intake, space, logits)
    columns = gradient(Dist(row_share=0), intake, space, logits)
    assert rows.norm().item() < 5e-3 * columns.norm().item()


def test_for_more_labels_they_do_and_the_consensus_is_the_optimum(make_intake):
    intake, space, logits = setting(make_intake, 4)
    assert abs(gradient(Dist(column_share=0), intake, space, logits)).max().item() > 1e-4
    best = Dist().targets(intake, space).probs.double().log().requires_grad_()
    loss = Dist().loss(best, Dist().targets(intake, space), torch.arange(ROWS))
    assert abs(loss).item() < 1e-4


def test_correlation_is_that_of_numpy():
    draw = np.random.default_rng(1)
    first, second = draw.normal(size=(2, 6, 9))
    found = pearson(torch.tensor(first), torch.tensor(second)).numpy()
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-7)

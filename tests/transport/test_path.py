"""Which way a cost is transported, read off the cost itself, and that each way is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fedkd.errors import ScenarioError
from fedkd.scenario import Labels
from fedkd.transport.exact import total_variation, two_labels, wasserstein_1d
from fedkd.transport.ground_cost import LabelSpace, label_space
from fedkd.transport.linear_program import lp
from fedkd.transport.path import ClosedForm, Entropic, GeomlossCompat, choose_path


def space(count: int, **keys: Any) -> LabelSpace:
    return label_space(Labels(**keys), [f"label {i}" for i in range(count)])


def pairs(count: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(labels)
    drawn = draw.dirichlet(np.full(labels, 0.5), (2, count))
    return drawn[0], drawn[1]


CLOSED = {
    "unsorted line": space(5, geometry="ordinal", values=(3, -1, 10, 0, 4)),
    "line given as points": space(
        4, geometry="coordinates", coordinates=((0, 0), (3, 4), (6, 8), (1.5, 2))
    ),
    "ties on a line": space(4, geometry="ordinal", values=(1, 1, 2, 5)),
    "one-hot": space(6, geometry="onehot", normalise=False),
    "equal coordinates": space(
        3, geometry="coordinates", coordinates=((0, 0), (1, 0), (0.5, 0.75**0.5))
    ),
    "two labels": space(2, geometry="hybrid", values=(0, 7), normalise=False),
    "one label": space(1, geometry="onehot"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_costs_with_a_closed_form_take_it_and_equal_the_linear_program(name: str) -> None:
    labels = CLOSED[name]
    transport = choose_path(labels)
    assert isinstance(transport, ClosedForm)
    a, b = pairs(40, len(labels.names))
    student, teacher = torch.as_tensor(a), transport.prepare(torch.as_tensor(b))
    one = torch.ones(1, 1), torch.arange(1)
    values = [
        float(transport.total(student[i : i + 1], teacher[i : i + 1, None], *one))
        for i in range(40)
    ]
    np.testing.assert_allclose(values, lp(a, b, labels.cost), atol=1e-9)


@pytest.mark.parametrize(
    "labels",
    [
        space(5, geometry="hybrid", values=(0, 1, 2, 3, 4)),
        space(4, geometry="ordinal", values=(0, 1, 2, 3), power=2),
        space(3, geometry="coordinates", coordinates=((0, 0), (1, 0), (0, 2))),
    ],
)
def test_other_costs_take_sinkhorn(labels: LabelSpace) -> None:
    assert isinstance(choose_path(labels), Entropic)


def test_a_solver_asked_for_is_the_one_used() -> None:
    line = CLOSED["unsorted line"]
    assert isinstance(choose_path(line, solver="sinkhorn"), Entropic)
    assert isinstance(choose_path(line, solver="geomloss_compat"), GeomlossCompat)
    with pytest.raises(ScenarioError, match="geomloss_compat"):
        choose_path(
            space(3, geometry="ordinal", values=(0, 1, 2), power=2), solver="geomloss_compat"
        )


@pytest.mark.parametrize("normalise", [True, False])
def test_epsilon_is_a_share_of_the_largest_cost(normalise: bool) -> None:
    labels = space(4, geometry="hybrid", values=(0, 1, 2, 9), normalise=normalise)
    transport = choose_path(labels, epsilon=0.1)
    assert isinstance(transport, Entropic)
    assert transport.gibbs.epsilon == pytest.approx(0.1 * labels.cost.max())


def test_the_closed_forms_by_name() -> None:
    values = torch.tensor([2.0, -1.0, 0.5, 7.0])
    a, b = (torch.as_tensor(x).requires_grad_() for x in pairs(30, 4))
    line = (values[:, None] - values).abs().double().numpy()
    solved = lp(a.detach().numpy(), b.detach().numpy(), line)
    np.testing.assert_allclose(wasserstein_1d(a, b, values).detach(), solved, atol=1e-12)
    equal = 3 * (1 - np.eye(4))
    solved = lp(a.detach().numpy(), b.detach().numpy(), equal)
    np.testing.assert_allclose(total_variation(a, b, 3.0).detach(), solved, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: wasserstein_1d(x, b.detach(), values), a)
    first, second = (torch.as_tensor(x) for x in pairs(30, 2))
    torch.testing.assert_close(two_labels(first, second, 3.0), 3 * (first - second).abs()[:, 0])
    with pytest.raises(ValueError, match="Expected shapes"):
        wasserstein_1d(a, b[:5], values)

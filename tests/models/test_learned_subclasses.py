"""What a teacher with subclasses is trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedkd.models.heads import Layout
from fedkd.models.subclasses import learned_subclasses, likeness

DRAW = torch.Generator().manual_seed(0)


def outputs(rows: int, count: int) -> torch.Tensor:
    return torch.randn(rows, count, generator=DRAW, dtype=torch.float64)


def test_rows_alike_score_nothing_and_rows_apart_less():
    assert likeness(outputs(1, 6).repeat(9, 1)).item() == pytest.approx(0, abs=1e-9)
    ten = torch.eye(10, dtype=torch.float64)
    assert likeness(ten).item() < likeness(outputs(10, 10)).item() < 0
    # ẑ of one-hot rows: 3 and −1/3, so that ẑ_i·ẑ_j / 10 is 1 or −1/9.
    wanted = np.log(np.exp(1) + 9 * np.exp(-1 / 9)) - 1 - np.log(10)
    assert likeness(ten).item() == pytest.approx(wanted, abs=1e-9)


def test_scale_and_shift_of_a_row_do_not_matter():
    values = outputs(8, 6)
    assert likeness(3 * values + 2).item() == pytest.approx(likeness(values).item(), abs=1e-9)


def test_the_labels_are_learnt_as_sums_of_subclasses():
    values, label = outputs(8, 6).requires_grad_(), np.arange(8) % 2
    found = learned_subclasses(label, Layout(1, 3))(values, torch.arange(8))
    sums = F.softmax(values, dim=1).reshape(8, 2, 3).sum(dim=2)
    wanted = F.nll_loss(sums.log(), torch.from_numpy(label)) + likeness(values)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-9)
    assert torch.autograd.gradcheck(likeness, values, atol=1e-6)

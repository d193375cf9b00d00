"""The compiled decoupled objective is the written-out one, in value and in gradient."""

from __future__ import annotations

import pytest
import torch

from fedkd.methods.decoupled import Aim, decoupled, written_out

ROWS, BATCH, LABELS = 30, 9, 3


def setting(heads: int, subclasses: int, dtype: torch.dtype = torch.float64):
    draw = torch.Generator().manual_seed(heads * 10 + subclasses)
    shape = (heads, LABELS, subclasses)
    outputs = 5 * torch.randn(BATCH, *shape, generator=draw, dtype=dtype)
    soft = torch.rand(ROWS, LABELS, generator=draw).softmax(dim=1)
    fine = torch.rand(ROWS, *shape, generator=draw)
    fine[::4, 0] = 0.0  # a teacher that gave nothing for a row
    rows = torch.randint(ROWS, (BATCH,), generator=draw)
    return outputs.requires_grad_(), Aim(soft, fine, 3.0, 0.7), rows


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("subclasses", [1, 2, 5])
def test_value_and_gradient_are_those_of_autograd(heads, subclasses):
    outputs, aim, rows = setting(heads, subclasses)
    ours = decoupled(outputs, aim, rows)
    theirs = written_out(outputs, aim, rows)
    assert abs(ours - theirs).item() < 1e-10
    (first,) = torch.autograd.grad(2 * ours, outputs)
    (second,) = torch.autograd.grad(2 * theirs, outputs)
    assert abs(first - second).max().item() < 1e-10


def test_the_gradient_is_that_of_finite_differences():
    outputs, aim, rows = setting(2, 3)
    assert torch.autograd.gradcheck(lambda x: decoupled(x, aim, rows), outputs, eps=1e-6, atol=1e-8)


def test_it_takes_float32_and_outputs_of_any_layout_and_size():
    outputs, aim, rows = setting(2, 5, torch.float32)
    turned = outputs.detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    found = decoupled(turned, aim, rows)
    assert found.dtype == torch.float32
    assert torch.equal(found, decoupled(outputs, aim, rows))
    huge = decoupled(outputs.double() * 1e4, aim, rows)
    assert torch.isfinite(huge)

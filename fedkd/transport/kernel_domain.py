"""Sinkhorn with one shared kernel in torch: for a GPU, and where nothing can be compiled."""

from __future__ import annotations

import torch
from torch import Tensor

CHECK_EVERY = 2
ROWS_AT_ONCE = 4096


def scale_in_torch(
    a: Tensor, b: Tensor, kernel: Tensor, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what :func:`fedkd.transport.compiled.scale_compiled` does, without over-relaxation.

    ``a`` and ``b`` are (pairs, labels), on one device; so are the answers.
    """
    kernel = kernel.to(a.device)
    parts = [
        _scale(x, y, kernel, iterations=iterations, tolerance=tolerance)
        for x, y in zip(torch.split(a, ROWS_AT_ONCE), torch.split(b, ROWS_AT_ONCE), strict=True)
    ]
    s, q, count, error = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    return s, q, count, error


def _scale(
    a: Tensor, b: Tensor, kernel: Tensor, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eliminate both scalings of a label in each half-step; rows leave as they converge."""
    d = kernel.diagonal()
    rest = kernel - torch.diag(d)
    back = rest.T
    answers = a.new_empty(2, *a.shape)
    error, count = a.new_empty(len(a)), torch.empty(len(a), dtype=torch.int64, device=a.device)
    rows = torch.arange(len(a), device=a.device)
    x, y = a, b
    u, s = x, y @ back
    for step in range(1, iterations + 1):
        q = u @ rest
        v = _eliminated(y, x, q, s, d)
        off = (v * (q + d * u) - y).abs().sum(dim=1)
        s = v @ back
        whole = s + d * v
        off += (u * whole - x).abs().sum(dim=1)
        u = _eliminated(x, y, s, q, d)
        if step % CHECK_EVERY and step != iterations:
            continue
        # Written so that a row which is no longer a number leaves too.
        moving = off > tolerance if step != iterations else torch.zeros_like(off, dtype=torch.bool)
        stay, leave = moving.nonzero().squeeze(1), (~moving).nonzero().squeeze(1)
        if len(leave):
            done = rows[leave]
            answers[0, done] = whole[leave]
            answers[1, done] = torch.where(y > 0, y / v, q + d * u)[leave]
            error[done], count[done] = off[leave], step
            rows, x, y, u, s = rows[stay], x[stay], y[stay], u[stay], s[stay]
        if not len(stay):
            break
    return answers[0], answers[1], count, error


def _eliminated(aim: Tensor, given: Tensor, s: Tensor, r: Tensor, d: Tensor) -> Tensor:
    """Return x where x (s + d y) = ``aim`` and y (r + d x) = ``given``, label by label."""
    least = torch.finfo(s.dtype).tiny ** 0.5
    s, r = s.clamp(min=least), r.clamp(min=least)
    product = s * r / d
    lean = aim - given - product
    high = (lean * lean + 4 * aim * product).sqrt() + lean.abs()
    # Of the root's two forms the one without cancellation.
    return torch.where(lean > 0, high / (2 * s), 2 * aim * r / (d * high).clamp(min=least**2))

"""Sinkhorn with one shared kernel in torch: for a GPU, and where nothing can be compiled."""

from __future__ import annotations

import torch
from torch import Tensor

CHECK_EVERY = 5
ROWS_AT_ONCE = 4096


def scale_in_torch(
    a: Tensor, b: Tensor, kernel: Tensor, start: Tensor | None, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what :func:`fedkd.transport.compiled.scale_compiled` does, without over-relaxation.

    ``a`` and ``b`` are (pairs, labels).
    """
    u = a if start is None else a * start.to(a.dtype)
    parts = [
        _scale(x, y, w, kernel, iterations=iterations, tolerance=tolerance)
        for x, y, w in zip(*(torch.split(t, ROWS_AT_ONCE) for t in (a, b, u)), strict=True)
    ]
    s, q, count, error = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    return s, q, count, error


def _scale(
    a: Tensor, b: Tensor, u: Tensor, kernel: Tensor, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Alternate v = b/(Gᵀu), u = a/(Gv); rows leave the batch as they converge."""
    back = kernel.T
    sums = a.new_empty(2, *a.shape)
    error, count = a.new_empty(len(a)), torch.empty(len(a), dtype=torch.int64, device=a.device)
    rows = torch.arange(len(a), device=a.device)
    x, y = a, b
    for step in range(1, iterations + 1):
        columns = u @ kernel
        row_sums = (y / columns) @ back
        if step % CHECK_EVERY and step != iterations:
            u = x / row_sums
            continue
        off = (u * row_sums).sub_(x).abs_().sum(dim=1)
        # Written so that a row which is no longer a number leaves too.
        moving = off > tolerance if step != iterations else torch.zeros_like(off, dtype=torch.bool)
        stay, leave = moving.nonzero().squeeze(1), (~moving).nonzero().squeeze(1)
        if len(leave):
            done = rows[leave]
            sums[0, done], sums[1, done] = row_sums[leave], columns[leave]
            error[done], count[done] = off[leave], step
            rows, x, y, row_sums = rows[stay], x[stay], y[stay], row_sums[stay]
        if not len(stay):
            break
        u = x / row_sums
    return sums[0], sums[1], count, error

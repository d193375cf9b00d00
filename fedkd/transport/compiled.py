"""Sinkhorn with one shared kernel, compiled: many instances abreast, each leaving when it is done.

An instance sits in a lane; a lane whose instance has converged takes the next one. What happens in
a lane does not depend on the others, so an answer is the same bit for bit in any company.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from fedkd.transport.gibbs import TILE, Gibbs
from fedkd.transport.lanes import lanes, rescale_tile

tile: Any = rescale_tile
Floats = NDArray[np.floating]
Scaled = tuple[Tensor, Tensor, Tensor, Tensor]

# Mass below this is no mass: denormal numbers would slow every product a hundredfold.
FAINT = {torch.float32: 1e-25, torch.float64: 1e-200}
MOST_RELAXED = 0.75
WORST_RATE = 0.9995


def scale_compiled(
    a: Tensor, b: Tensor, gibbs: Gibbs, kernel: Tensor, start: Tensor | None,
    *, iterations: int, tolerance: float,
) -> Scaled:  # fmt: skip
    """Return G v and Gᵀu (pairs, labels), the steps taken and the L1 marginal error (pairs,).

    Alternates u = a/(G v), v = b/(Gᵀu), over-relaxed: after four plain steps the rate of each
    instance is read off its error, and w = 2/(1 + √(1 − rate)) follows it (Young 1971; for
    Sinkhorn: Thibault et al. 2021, Algorithms 14(5)). The last step is plain. ``b`` is (pairs,
    labels) and row k of ``a`` serves pairs k·n … k·n + n − 1; ``start`` (pairs, labels) is e^{f/ε}
    to begin with.
    """
    forth, back = (grid.numpy() for grid in gibbs.packed(kernel))
    labels = b.shape[1]
    sums = b.new_empty(2, len(b), labels)
    steps, error = torch.empty(len(b), dtype=torch.int64), b.new_empty(len(b))
    begin = b.new_empty(0, labels) if start is None else start.to(b.dtype)
    _solve(
        a.contiguous().numpy(), b.contiguous().numpy(), begin.contiguous().numpy(), forth, back,
        max(1, len(b) // max(1, len(a))), iterations, tolerance, _abreast(labels, iterations),
        FAINT[b.dtype], lanes(8 * b.element_size()), sums.numpy(), steps.numpy(), error.numpy(),
    )  # fmt: skip
    return sums[0], sums[1], steps, error


def _abreast(labels: int, iterations: int) -> int:
    """Return how many steps to take between two looks at the lanes; a look costs no less."""
    steps = 1 if labels >= 48 else 2 if labels >= 16 else 4
    while iterations % steps:
        steps //= 2
    return steps


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any]
    try:
        compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep the machine code in
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


@_compile
def _half_step(
    grid: Floats, x: Floats, own: Floats, target: Floats, sums: Floats, share: Floats,
    error: Floats, labels: int,
) -> None:  # fmt: skip
    error[:] = 0
    for row in range(0, own.size // error.size, TILE):
        tile(grid, x, own, target, sums, share, error, row, labels)


@_compile
def _seat(
    pair: int, lane: int, a: Floats, b: Floats, start: Floats, teachers: int, faint: float,
    source: Floats, goal: Floats, u: Floats, v: Floats, width: int,
) -> None:  # fmt: skip
    """Put a pair into a lane: its marginals, and u = a e^{f/ε}, v = b to begin with."""
    row = pair // teachers
    for i in range(b.shape[1]):
        at = i * width + lane
        given, wanted = a[row, i], b[pair, i]
        source[at] = given if given > faint else 0
        goal[at] = wanted if wanted > faint else 0
        u[at] = source[at] * start[pair, i] if start.size else source[at]
        v[at] = goal[at]


@_compile
def _relaxed(share: float, rate: float) -> float:
    """Return the share of over-relaxation for an instance whose error falls by ``rate`` a step."""
    if rate > 1:
        return share * 0.7
    if not rate > share:
        return share  # as fast as this share allows
    w = 1 + share
    plain = min((rate + share) ** 2 / (rate * w * w), WORST_RATE)
    wanted: float = 2 / (1 + np.sqrt(1 - plain)) - 1
    return min(max(share, wanted), MOST_RELAXED)


@_compile
def _solve(
    a: Floats, b: Floats, start: Floats, forth: Floats, back: Floats, teachers: int,
    iterations: int, tolerance: float, abreast: int, faint: float, width: int,
    sums: Floats, steps: NDArray[np.int64], errors: Floats,
) -> None:  # fmt: skip
    pairs, labels = b.shape
    size = (labels + TILE - 1) // TILE * TILE * width
    source, goal, u, v, s, q = np.zeros((6, size), b.dtype)
    share, error = np.zeros((2, width), b.dtype)
    wanted, before = np.zeros(width), np.zeros(width)
    pair, count = np.full(width, -1), np.zeros(width, np.int64)
    following = min(width, pairs)
    for lane in range(following):
        pair[lane] = lane
        _seat(lane, lane, a, b, start, teachers, faint, source, goal, u, v, width)
    busy = following
    while busy:
        for _ in range(abreast):
            _half_step(back, u, v, goal, q, share, error, labels)
            _half_step(forth, v, u, source, s, share, error, labels)
        for lane in range(width):
            if pair[lane] < 0:
                continue
            count[lane] += abreast
            step, off = count[lane], error[lane]
            plain = share[lane] == 0
            if step >= iterations or (not off > tolerance and plain) or np.isnan(off):
                for i in range(labels):
                    sums[0, pair[lane], i] = s[i * width + lane]
                    sums[1, pair[lane], i] = q[i * width + lane]
                steps[pair[lane]], errors[pair[lane]] = step, off
                pair[lane], count[lane], share[lane], wanted[lane] = -1, 0, 0, 0
                if following < pairs:
                    pair[lane] = following
                    _seat(following, lane, a, b, start, teachers, faint, source, goal, u, v, width)
                    following += 1
                else:
                    busy -= 1
                continue
            if step == 2 or step == 4 == abreast:
                before[lane] = off
            elif step % 4 == 0:
                rate = np.sqrt(off / before[lane])
                wanted[lane] = _relaxed(wanted[lane], rate if step == 4 else np.sqrt(rate))
                before[lane] = off
            # A plain step makes the plan's columns exact, so that one error says it all.
            last = not off > tolerance or step + abreast >= iterations
            share[lane] = 0 if last else wanted[lane]

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
from fedkd.transport.lanes import lanes, measure_then_update, update_then_measure

first_half: Any = update_then_measure
second_half: Any = measure_then_update
Floats = NDArray[np.floating]
Scaled = tuple[Tensor, Tensor, Tensor, Tensor]

# Mass below this is no mass: denormal numbers would slow every product a hundredfold.
FAINT = {torch.float32: 1e-25, torch.float64: 1e-200}
MOST_RELAXED = 0.75
WORST_RATE = 0.9995
LEAST = 1e-30


def scale_compiled(
    a: Tensor, b: Tensor, gibbs: Gibbs, kernel: Tensor, *, iterations: int, tolerance: float
) -> Scaled:
    """Return G v and b/v (pairs, labels), the steps taken and the L1 marginal error (pairs,).

    Alternates v and u = a/(G v) as Sinkhorn does, but in each half-step solves for both scalings of
    a label, with those of the other labels held: most of a label's mass stays where it is, and
    that part of the plan is what Sinkhorn is slow to settle. Over-relaxed: the rate of each
    instance is read off its error, and w = 2/(1 + √(1 − rate)) follows it (Young 1971; for
    Sinkhorn: Thibault et al. 2021, Algorithms 14(5)). ``b`` is (pairs, labels) and row k of ``a``
    serves pairs k·n … k·n + n − 1. The error is that of both marginals before the last half-step,
    a bound of that of the plan returned.
    """
    packed = gibbs.packed(kernel)
    labels = b.shape[1]
    sums = b.new_empty(2, len(b), labels)
    steps, error = torch.empty(len(b), dtype=torch.int64), b.new_empty(len(b))
    _solve(
        a.contiguous().numpy(), b.contiguous().numpy(), packed.forth.numpy(), packed.back.numpy(),
        packed.diagonal.numpy(), packed.mean, max(1, len(b) // max(1, len(a))), iterations,
        tolerance, FAINT[b.dtype], lanes(8 * b.element_size()), sums.numpy(), steps.numpy(),
        error.numpy(),
    )  # fmt: skip
    return sums[0], sums[1], steps, error


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any]
    try:
        compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep the machine code in
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


@_compile
def _step(
    forth: Floats, back: Floats, diagonal: Floats, a: Floats, b: Floats, u: Floats, v: Floats,
    s: Floats, q: Floats, share: Floats, error: Floats, labels: int,
) -> None:  # fmt: skip
    error[:] = 0
    for row in range(0, diagonal.size, TILE):
        first_half(back, u, v, b, a, s, q, diagonal, share, error, row, labels)
    for row in range(0, diagonal.size, TILE):
        second_half(forth, v, u, a, b, q, s, diagonal, share, error, row, labels)


@_compile
def _seat(
    pair: int, lane: int, a: Floats, b: Floats, teachers: int, diagonal: Floats, mean: float,
    faint: float, source: Floats, goal: Floats, u: Floats, v: Floats, s: Floats, guess: Floats,
) -> None:  # fmt: skip
    """Put a pair into a lane: its marginals, and scalings to begin with.

    Were the labels equally far apart, all sums over the other labels would be about √(mean · mass
    to be moved); u is what each label makes of that.
    """
    number, labels, width = b.dtype.type, b.shape[1], source.size // diagonal.size
    none, four = number(0), number(4)
    x, y = a[pair // teachers], b[pair]
    for i in range(labels):
        source[i * width + lane] = x[i] if x[i] > faint else none
        goal[i * width + lane] = v[i * width + lane] = y[i] if y[i] > faint else none
    moved = none
    for i in range(labels):
        guess[i] = max(x[i] - y[i], none)
        moved += guess[i]
    level = np.sqrt(number(mean) * moved + number(LEAST))
    for i in range(labels):
        product = level * level / diagonal[i]
        lean = x[i] - y[i] - product
        high = np.sqrt(lean * lean + four * x[i] * product) + abs(lean)
        above, below = high, level + level
        if lean <= 0:
            above, below = (x[i] + x[i]) * level, diagonal[i] * high
        guess[i] = above / below
    for i in range(labels):
        u[i * width + lane] = guess[i] if x[i] > faint else none
        s[i * width + lane] = level


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
    a: Floats, b: Floats, forth: Floats, back: Floats, diagonal: Floats, mean: float,
    teachers: int, iterations: int, tolerance: float, faint: float, width: int,
    sums: Floats, steps: NDArray[np.int64], errors: Floats,
) -> None:  # fmt: skip
    pairs, labels = b.shape
    source, goal, u, v, s, q = np.zeros((6, diagonal.size * width), b.dtype)
    share, error = np.zeros((2, width), b.dtype)
    guess, before = np.zeros(labels, b.dtype), np.zeros(width)
    pair, count = np.full(width, -1), np.zeros(width, np.int64)
    busy = following = min(width, pairs)
    for lane in range(following):
        pair[lane] = lane
        _seat(lane, lane, a, b, teachers, diagonal, mean, faint, source, goal, u, v, s, guess)
    while busy:
        _step(forth, back, diagonal, source, goal, u, v, s, q, share, error, labels)
        for lane in range(width):
            if pair[lane] < 0:
                continue
            count[lane] += 1
            step, off = count[lane], error[lane]
            if step < iterations and off > tolerance:
                # The first steps tell nothing of the rate; two are taken with every share.
                if step > 2 and step % 2:
                    share[lane] = _relaxed(share[lane], off / before[lane])
                before[lane] = off
                continue
            done = pair[lane]
            for i in range(labels):
                at = i * width + lane
                sums[0, done, i] = s[at] + diagonal[i] * v[at]
                sums[1, done, i] = goal[at] / v[at] if goal[at] > 0 else q[at] + diagonal[i] * u[at]
            steps[done], errors[done] = step, off
            pair[lane], count[lane], share[lane] = -1, 0, 0
            if following < pairs:
                pair[lane] = following
                _seat(
                    following, lane, a, b, teachers, diagonal, mean, faint, source, goal, u, v, s,
                    guess,
                )  # fmt: skip
                following += 1
            else:
                busy -= 1

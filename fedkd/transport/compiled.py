"""Sinkhorn with one shared kernel, compiled: many instances abreast, each leaving when it is done.

A slot whose instance has converged takes the next one. What happens in a slot does not depend on
the others, so an answer is the same bit for bit in any company.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedkd.transport import half_step
from fedkd.transport.gibbs import Gibbs

begin: Any = half_step.begin
multiply_one: Any = half_step.multiply_one
multiply_two: Any = half_step.multiply_two
multiply_three: Any = half_step.multiply_three
update_then_measure: Any = half_step.update_then_measure
measure_then_update: Any = half_step.measure_then_update

Floats = NDArray[np.floating]
Whole = NDArray[np.int64]
Scaled = tuple[Tensor, Tensor, Tensor, Tensor]

# Mass below this is no mass: denormal numbers would slow every product a hundredfold.
FAINT = {torch.float32: 1e-25, torch.float64: 1e-200}
MOST_RELAXED = 0.75
WORST_RATE = 0.9995
SLOTS = 64
ABREAST = half_step.ABREAST


def scale_compiled(
    a: Tensor, b: Tensor, gibbs: Gibbs, kernel: Tensor, *, iterations: int, tolerance: float
) -> Scaled:
    """Return G v and b/v (pairs, labels), the steps taken and the L1 marginal error (pairs,).

    Alternates v and u as Sinkhorn does, but in each half-step solves for both scalings of a label,
    with those of the other labels held: most of a label's mass stays where it is, and that part of
    the plan is what Sinkhorn is slow to settle. Over-relaxed: the rate of each instance is read
    off its error, and w = 2/(1 + √(1 − rate)) follows it (Young 1971; for Sinkhorn: Thibault et al.
    2021, Algorithms 14(5)). ``b`` is (pairs, labels) and row k of ``a`` serves pairs k·n … k·n + n
    − 1. The error is that of both marginals before the last half-step, a bound of that of the plan
    returned.
    """
    packed, labels = gibbs.packed(kernel), b.shape[1]
    width = len(packed.diagonal)
    x, y = (
        functional.pad(functional.threshold(rows, FAINT[b.dtype], 0), (0, width - labels))
        for rows in (a, b)
    )
    sums = b.new_empty(2, len(b), labels)
    steps, error = torch.empty(len(b), dtype=torch.int64), b.new_empty(len(b))
    _solve(
        x.view(-1).numpy(), y.view(-1).numpy(), packed.forth.numpy(), packed.back.numpy(),
        packed.diagonal.numpy(), packed.mean, max(1, len(b) // max(1, len(a))), iterations,
        tolerance, sums.numpy(), steps.numpy(), error.numpy(),
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
def _multiply(
    rows: Floats, slots: Whole, first: int, kernel: Floats, labels: int, sums: Floats, width: int,
    panels: int,
) -> None:  # fmt: skip
    """Multiply eight rows with the kernel, three panels at a time and never one if two can be."""
    panel = 0
    while panels - panel >= 5 or panels - panel == 3:
        multiply_three(rows, slots, first, kernel, labels, sums, width, panel)
        panel += 3
    while panels - panel >= 2:
        multiply_two(rows, slots, first, kernel, labels, sums, width, panel)
        panel += 2
    if panel < panels:
        multiply_one(rows, slots, first, kernel, labels, sums, width, panel)


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
    teachers: int, iterations: int, tolerance: float, answers: Floats, steps: Whole, errors: Floats,
) -> None:  # fmt: skip
    _, pairs, labels = answers.shape
    number, width = b.dtype.type, diagonal.size
    panels = width * b.itemsize // 64
    u, v, s, q = np.zeros((4, (SLOTS + 1) * width), b.dtype)
    share, off = np.zeros((2, SLOTS), b.dtype)
    before = np.zeros(SLOTS)
    pair, count = np.zeros((2, SLOTS), np.int64)
    # The active slots in front, then the spare one that fills a group of eight.
    slots = np.full(SLOTS + ABREAST, SLOTS)
    active = following = 0
    for slot in range(min(SLOTS, pairs)):
        slots[slot] = slot
        active += 1
        pair[slot] = following
        begin(a, following // teachers, b, following, diagonal, number(mean), u, s, slot)
        following += 1
    while active:
        for first in range(0, active, ABREAST):
            _multiply(u, slots, first, forth, labels, q, width, panels)
            for k in range(first, min(first + ABREAST, active)):
                i = slots[k]
                off[i] = update_then_measure(
                    q, s, u, v, i, b, pair[i], a, pair[i] // teachers, diagonal, share[i]
                )
            _multiply(v, slots, first, back, labels, s, width, panels)
            for k in range(first, min(first + ABREAST, active)):
                i = slots[k]
                off[i] += measure_then_update(
                    s, q, v, u, i, a, pair[i] // teachers, b, pair[i], diagonal, share[i]
                )
        k = 0
        while k < active:
            i = slots[k]
            k += 1
            count[i] += 1
            step, error, done = count[i], off[i], pair[i]
            if step < iterations and error > tolerance:
                # The first steps tell nothing of the rate; two are taken with every share.
                if step > 2 and step % 2:
                    share[i] = _relaxed(share[i], error / before[i])
                before[i] = error
                continue
            line, goal = i * width, done * width
            for j in range(labels):
                answers[0, done, j] = s[line + j] + diagonal[j] * v[line + j]
                wanted = b[goal + j]
                rest = q[line + j] + diagonal[j] * u[line + j]
                answers[1, done, j] = wanted / v[line + j] if wanted > 0 else rest
            steps[done], errors[done] = step, error
            share[i], count[i] = 0, 0
            if following < pairs:
                pair[i] = following
                begin(a, following // teachers, b, following, diagonal, number(mean), u, s, i)
                following += 1
            else:
                k, active = k - 1, active - 1
                slots[k], slots[active] = slots[active], SLOTS

"""Sinkhorn with one shared kernel, compiled: many instances abreast, each leaving when it is done.

A slot whose instance has converged takes the next one. What happens in a slot does not depend on
the others, so an answer is the same bit for bit in any company.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from fedkd.transport import elimination, products
from fedkd.transport.gibbs import VECTOR_BYTES, Gibbs

begin: Any = elimination.begin
finish: Any = elimination.finish
update: Any = elimination.update
update_and_measure: Any = elimination.update_and_measure
multiply_one: Any = products.multiply_one
multiply_two: Any = products.multiply_two
multiply_three: Any = products.multiply_three

Floats = NDArray[np.floating]
Whole = NDArray[np.int64]
Solved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

# Mass below this is no mass: denormal numbers would slow every product a hundredfold.
FAINT = {torch.float32: 1e-25, torch.float64: 1e-200}
MOST_RELAXED, CALMER = 0.75, 0.7
WORST_RATE = 0.9995
SLOTS = 48
NEARLY = 0.5  # of the root of the rounding error: from there on steps are plain, see elimination
ABREAST = products.ABREAST


def solve_compiled(
    a: Tensor, b: Tensor, gibbs: Gibbs, kernel: Tensor, *, iterations: int, tolerance: float
) -> Solved:
    """Return f of mean 0 and g (pairs, labels), the value, steps and L1 marginal error (pairs,).

    Alternates v and u as Sinkhorn does, but in each half-step solves for both scalings of a label,
    with those of the other labels held: most of a label's mass stays where it is, and that part of
    the plan is what Sinkhorn is slow to settle. Over-relaxed: the rate of each instance is read
    off its error, and w = 2/(1 + √(1 − rate)) follows it (Young 1971; for Sinkhorn: Thibault et al.
    2021, Algorithms 14(5)). ``b`` is (pairs, labels) and row k of ``a`` serves pairs k·n … k·n + n
    − 1. The error is a bound. A row that left the range of the kernel is not a number.
    """
    packed, (pairs, labels) = gibbs.packed(kernel), b.shape
    width = len(packed.filler)
    x, y = (_filled(r.contiguous().numpy(), width, FAINT[b.dtype]) for r in (a, b))
    f, g = b.new_empty(2, pairs, width)
    value, error = b.new_empty(2, pairs)
    steps = torch.empty(pairs, dtype=torch.int64)
    _solve(
        x, y, np.arange(pairs), *packed.arrays, packed.mean, gibbs.epsilon, labels,
        max(1, pairs // max(1, len(a))), iterations, tolerance, f.view(-1).numpy(),
        g.view(-1).numpy(), value.numpy(), steps.numpy(), error.numpy(),
    )  # fmt: skip
    return f[:, :labels], g[:, :labels], value, steps, error


def fill(targets: Tensor, gibbs: Gibbs) -> Tensor:
    """Return (..., width) float32 targets as :func:`total_compiled` reads them."""
    flat = targets.float().reshape(-1, targets.shape[-1]).contiguous()
    width = len(gibbs.packed(flat).filler)
    filled = _filled(flat.numpy(), width, FAINT[torch.float32])
    return torch.from_numpy(filled).view(*targets.shape[:-1], width)


def total_compiled(
    a: Tensor, targets: Tensor, shares: Tensor, rows: Tensor, gibbs: Gibbs, *, iterations: int,
    tolerance: float,
) -> tuple[float, Tensor, int] | None:  # fmt: skip
    """Return Σ share value of all pairs, Σ_k share_k f_k (batch, labels), how many converged.

    ``targets`` (all rows, teachers, width) are from :func:`fill`, ``shares`` (all rows, teachers),
    both float32 and contiguous; ``rows`` (batch,) numbers those that belong to the rows of ``a``.
    None where a pair left the range of the kernel.
    """
    packed, pull = gibbs.packed(a), torch.zeros_like(a)
    value, converged = _total(
        a.contiguous().numpy(), targets.view(-1).numpy(), shares.numpy(), rows.numpy(),
        *packed.arrays, packed.mean, gibbs.epsilon, iterations, tolerance, FAINT[a.dtype],
        pull.numpy(),
    )  # fmt: skip
    return (value, pull, converged) if math.isfinite(value) else None


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any]
    try:
        compiled = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep the machine code in
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


@_compile
def _filled(rows: Floats, width: int, faint: float) -> Floats:
    """Return the rows with zeros up to ``width`` and instead of faint values, flat."""
    none, least = rows.dtype.type(0), rows.dtype.type(faint)
    filled = np.empty((rows.shape[0], width), rows.dtype)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            filled[i, j] = rows[i, j] if rows[i, j] > least else none
        filled[i, rows.shape[1] :] = 0
    return filled.reshape(-1)


@_compile
def _add(f: Floats, value: Floats, shares: Floats, rows: Whole, pull: Floats, sums: Floats) -> None:
    """Add what the teachers of a row pull and cost, in their order."""
    teachers = shares.shape[1]
    for i in range(rows.size):
        for k in range(teachers):
            share = shares[rows[i], k]
            sums[i] += share * value[i * teachers + k]
            for j in range(f.shape[1]):
                pull[i, j] += share * f[i * teachers + k, j]


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
def _relaxed(share: float, rate: float, most: float) -> float:
    """Return the share of over-relaxation for an instance whose error falls by ``rate`` a step."""
    if not rate > share:
        return share  # as fast as this share allows
    w = 1 + share
    plain = min((rate + share) ** 2 / (rate * w * w), WORST_RATE)
    wanted: float = 2 / (1 + np.sqrt(1 - plain)) - 1
    return min(max(share, wanted), most)


@_compile
def _share(
    share: float, most: float, error: float, before: float, step: int, nearly: float
) -> float:
    """Return the share for the next step; -1 from the first error below ``nearly`` on."""
    if error < nearly or share < 0:
        return -1.0
    # The first steps tell nothing of the rate; two are taken with every share.
    relaxed = _relaxed(share, error / before, most) if step > 2 and step % 2 else share
    return min(relaxed, most)


@_compile
def _solve(
    a: Floats, b: Floats, places: Whole, forth: Floats, back: Floats, filler: Floats, tilt: Floats,
    mean: float, epsilon: float, labels: int, teachers: int, iterations: int, tolerance: float,
    f: Floats, g: Floats, values: Floats, steps: Whole, errors: Floats,
) -> None:  # fmt: skip
    number, width, pairs = b.dtype.type, filler.size, steps.size
    panels = width * b.itemsize // VECTOR_BYTES
    u, v, s, q = np.zeros((4, (SLOTS + 1) * width), b.dtype)
    share, off, before, most = np.zeros((4, SLOTS), b.dtype)
    most[:] = MOST_RELAXED
    nearly = number(NEARLY * np.sqrt(np.finfo(b.dtype).eps))
    # The pair of a slot, where it and its student are in b and a, and its steps.
    pair, there, here, count = np.zeros((4, SLOTS), np.int64)
    # The active slots in front, then the spare one that fills a group of eight.
    slots = np.full(SLOTS + ABREAST, SLOTS)
    slots[: min(SLOTS, pairs)] = np.arange(min(SLOTS, pairs))
    active = following = min(SLOTS, pairs)
    pair[:active] = np.arange(active)
    while active:
        for k in range(active):
            i = slots[k]
            if count[i] == 0:
                there[i], here[i] = places[pair[i]] * width, pair[i] // teachers * width
                begin(a, here[i], b, there[i], number(mean), u, s, i * width, width)
        for first in range(0, active, ABREAST):
            last = min(first + ABREAST, active)
            _multiply(u, slots, first, forth, labels, q, width, panels)
            for k in range(first, last):
                i = slots[k]
                update(q, s, u, v, i * width, b, there[i], a, here[i], share[i], width)
            _multiply(v, slots, first, back, labels, s, width, panels)
            for k in range(first, last):
                i = slots[k]
                off[i] = update_and_measure(
                    s, q, v, u, i * width, a, here[i], b, there[i], share[i], width
                )
        k = 0
        while k < active:
            i = slots[k]
            count[i] += 1
            step, error, k = count[i], off[i], k + 1
            if step < iterations and error > tolerance:
                if error > before[i] and step > 1:
                    most[i] *= number(CALMER)  # for good, so that nothing goes round for ever
                share[i] = _share(share[i], most[i], error, before[i], step, nearly)
                before[i] = error
                continue
            values[pair[i]] = finish(
                s, q, u, v, i * width, a, here[i], b, there[i], filler, tilt, number(epsilon),
                labels, width, f, pair[i] * width, g, pair[i] * width if g.size > width else 0,
            )  # fmt: skip
            steps[pair[i]], errors[pair[i]] = step, error
            share[i], most[i], count[i] = 0, MOST_RELAXED, 0
            if following < pairs:
                pair[i], following = following, following + 1
            else:
                k, active = k - 1, active - 1
                slots[k], slots[active] = slots[active], SLOTS


@_compile
def _total(
    a: Floats, targets: Floats, shares: Floats, rows: Whole, forth: Floats, back: Floats,
    filler: Floats, tilt: Floats, mean: float, epsilon: float, iterations: int, tolerance: float,
    faint: float, pull: Floats,
) -> tuple[float, int]:  # fmt: skip
    """Add what the teachers of a row cost and pull, in their order."""
    (batch, labels), teachers, width = a.shape, shares.shape[1], filler.size
    pairs = batch * teachers
    places = np.empty(pairs, np.int64)
    for i in range(batch):
        for k in range(teachers):
            places[i * teachers + k] = rows[i] * teachers + k
    f, g = np.empty(pairs * width, a.dtype), np.empty(width, a.dtype)
    values, errors = np.empty((2, pairs), a.dtype)
    _solve(
        _filled(a, width, faint), targets, places, forth, back, filler, tilt, mean, epsilon, labels,
        teachers, iterations, tolerance, f, g, values, np.empty(pairs, np.int64), errors,
    )  # fmt: skip
    value, converged = 0.0, 0
    for i in range(batch):
        for k in range(teachers):
            pair, share = i * teachers + k, shares[rows[i], k]
            converged += errors[pair] <= tolerance
            value += share * values[pair]
            for j in range(labels):
                pull[i, j] += share * f[pair * width + j]
    return value, converged

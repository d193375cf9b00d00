"""Balanced entropic optimal transport for many pairs of distributions and one shared cost.

Convention (Cuturi 2013; Feydy et al. 2019)::

    OT_ε(a, b) = min_{P ∈ U(a, b)} <P, C> + ε KL(P | a bᵀ) = <a, f> + <b, g>

so that by the envelope theorem ∂OT_ε/∂a = f, the dual potential, and nothing is unrolled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fedkd.errors import expected
from fedkd.transport.log_domain import ELEMENTS_AT_ONCE, solve_log_domain

CHECK_EVERY = 5
ROWS_AT_ONCE = 4096
MASS_TOLERANCE = 1e-4

# Scalings u, v reach exp(±max C/ε) and meet in products, so each dtype holds half its range.
RANGE_FLOAT32 = 40.0
RANGE_FLOAT64 = 300.0
FINEST_FLOAT32 = 1e-5

Solve = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Gibbs:
    """A cost (labels, labels) float64, its ε, and exp(−C/ε) in the dtypes that can hold it."""

    cost: Tensor
    epsilon: float
    single: Tensor | None
    double: Tensor | None

    def kernel(self, dtype: torch.dtype, tolerance: float) -> Tensor | None:
        """Return the cheapest kernel that is accurate enough; None asks for the log domain."""
        coarse = dtype == torch.float32 and tolerance >= FINEST_FLOAT32
        return self.single if coarse and self.single is not None else self.double


@dataclass(frozen=True)
class Potentials:
    """Dual potentials f, g (batch, labels), steps taken and L1 error of the marginal (batch,)."""

    f: Tensor
    g: Tensor
    iterations: Tensor
    error: Tensor


@dataclass(frozen=True)
class Solution:
    """What one batched solve gives; per-instance fields are (batch,), potentials (batch, labels).

    ``value`` is OT_ε, ``transport_cost`` is <P, C>. ``f`` has mean 0 over the labels and is finite
    even where a_i = 0. ``converged`` is false where ``marginal_error`` (L1) exceeds the tolerance.
    """

    value: Tensor
    transport_cost: Tensor
    f: Tensor
    g: Tensor
    iterations: Tensor
    converged: Tensor
    marginal_error: Tensor

    @property
    def unconverged(self) -> int:
        """How many instances stopped before the tolerance was met."""
        return int((~self.converged).sum())


def gibbs_kernel(cost: Tensor, epsilon: float) -> Gibbs:
    """Prepare a (labels, labels) cost for many solves; ``epsilon`` is in the cost's own unit.

    Raises ValueError for a cost that is not square and finite and non-negative, or epsilon <= 0.
    """
    if cost.dim() != 2 or cost.shape[0] != cost.shape[1] or not cost.numel():
        raise ValueError(
            expected("cost.shape", tuple(cost.shape), "be (labels, labels)", "a square matrix")
        )
    if not bool(torch.isfinite(cost).all()) or float(cost.min()) < 0:
        raise ValueError(
            "Expected cost to be finite and non-negative. Try a cost from label_space()."
        )
    if not 0 < epsilon < float("inf"):
        raise ValueError(expected("epsilon", epsilon, "be > 0", "0.05 times the largest cost"))
    exact = cost.detach().double()
    steepness = float(exact.max()) / epsilon
    double = torch.exp(-exact / epsilon) if steepness <= RANGE_FLOAT64 else None
    single = double.float() if double is not None and steepness <= RANGE_FLOAT32 else None
    return Gibbs(exact, float(epsilon), single, double)


def solve(
    a: Tensor, b: Tensor, gibbs: Gibbs, *, iterations: int = 200, tolerance: float = 1e-3
) -> Solution:
    """Solve every pair of rows of ``a`` and ``b`` (batch, labels), float32 or float64.

    An instance stops once the L1 error of its marginal is at most ``tolerance``. Raises ValueError
    for wrong shapes or dtypes and for rows which are not distributions.
    """
    _check_marginals(a, b, gibbs)
    with torch.no_grad():
        found = potentials(a, b, gibbs, iterations, tolerance)
        return Solution(
            value=dual_value(a, b, found.f, found.g),
            transport_cost=_transport_cost(a, b, found, gibbs),
            f=found.f,
            g=found.g,
            iterations=found.iterations,
            converged=found.error <= tolerance,
            marginal_error=found.error,
        )


def sinkhorn(
    a: Tensor, b: Tensor, gibbs: Gibbs, *, iterations: int = 200, tolerance: float = 1e-3
) -> Tensor:
    """Return OT_ε of every pair of rows, (batch,); its gradient with respect to ``a`` is f.

    ``b`` is held fixed: asking for its gradient raises ValueError, as do the faults of
    :func:`solve`.
    """
    _check_marginals(a, b, gibbs)
    if b.requires_grad:
        raise ValueError(
            expected("b.requires_grad", True, "be false", "b.detach(), or swapping a and b")
        )

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found = potentials(x, y, gibbs, iterations, tolerance)
        return found.f, dual_value(x, y, found.f, found.g)

    return envelope(a, b[:, None], both)[:, 0]


def potentials(a: Tensor, b: Tensor, gibbs: Gibbs, iterations: int, tolerance: float) -> Potentials:
    """Return the dual potentials for rows known to be distributions; see :func:`solve`.

    The kernel domain serves first; rows that leave its range are solved again in the log domain.
    """
    kernel = gibbs.kernel(a.dtype, tolerance)
    if kernel is None or not len(a):
        return _centred(
            solve_log_domain(
                a, b, gibbs.cost, gibbs.epsilon, iterations=iterations, tolerance=tolerance
            ),
            a.dtype,
        )
    x, y = a.to(kernel.dtype), b.to(kernel.dtype)
    parts = [
        _scale(s, t, kernel, gibbs.epsilon, iterations=iterations, tolerance=tolerance)
        for s, t in zip(torch.split(x, ROWS_AT_ONCE), torch.split(y, ROWS_AT_ONCE), strict=True)
    ]
    found = parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))
    f, g, count, error = found
    lost = ~torch.isfinite(f.sum(dim=1) + g.sum(dim=1))
    if bool(lost.any()):
        again = solve_log_domain(
            a[lost], b[lost], gibbs.cost, gibbs.epsilon, iterations=iterations, tolerance=tolerance
        )
        for old, new in zip((f, g, count, error), again, strict=True):
            old[lost] = new.to(old.dtype)
    return _centred((f, g, count, error), a.dtype)


def envelope(a: Tensor, b: Tensor, solve: Solve) -> Tensor:
    """Return the transport values (batch, teachers) from ``a`` (batch, labels) to each ``b``.

    ``b`` is (batch, teachers, labels). ``solve`` takes (pairs, labels) twice and returns (f, value)
    of every pair; the backward pass keeps f alone.
    """
    values: Tensor = _Envelope.apply(a, b, solve)  # type: ignore[no-untyped-call]
    return values


def dual_value(a: Tensor, b: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """Return <a, f> + <b, g> of every row, (batch,)."""
    return (a * f).sum(dim=1) + (b * g).sum(dim=1)


class _Envelope(torch.autograd.Function):
    """∂ OT_ε(a, b_k) / ∂a = f_k."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, solve: Solve) -> Tensor:
        pairs = b.shape[0] * b.shape[1]
        repeated = a[:, None].expand(b.shape).reshape(pairs, b.shape[2])
        f, value = solve(repeated, b.reshape(pairs, b.shape[2]))
        ctx.save_for_backward(f.view(b.shape))
        return value.view(b.shape[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (f,) = ctx.saved_tensors
        return torch.einsum("bt,btk->bk", grad, f), None, None


def _scale(
    a: Tensor, b: Tensor, kernel: Tensor, epsilon: float, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Alternate u = a/(Gv), v = b/(Gᵀu); rows leave the batch as they converge."""
    back = kernel.T
    last = torch.empty_like(a)
    error = a.new_empty(len(a))
    count = torch.empty(len(a), dtype=torch.int64)
    rows = torch.arange(len(a))
    x, y = a, b
    row_sums = b @ back
    for step in range(1, iterations + 1):
        u = x / row_sums
        torch.mm(y / (u @ kernel), back, out=row_sums)
        if step % CHECK_EVERY and step != iterations:
            continue
        off = u.mul_(row_sums).sub_(x).abs_().sum(dim=1)
        # Written so that a row which is no longer a number leaves too.
        moving = off > tolerance if step != iterations else torch.zeros_like(off, dtype=torch.bool)
        stay, leave = moving.nonzero().squeeze(1), (~moving).nonzero().squeeze(1)
        if not len(leave):
            continue
        done = rows[leave]
        last[done], error[done], count[done] = row_sums[leave], off[leave], step
        if not len(stay):
            break
        rows, x, y, row_sums = rows[stay], x[stay], y[stay], row_sums[stay]
    g = torch.log((a / last) @ kernel).mul_(-epsilon)
    return torch.log(last).mul_(-epsilon), g, count, error


def _centred(found: tuple[Tensor, ...], dtype: torch.dtype) -> Potentials:
    """Fix the free constant of (f + c, g − c) so that f has mean 0."""
    f, g, count, error = found
    mean = f.mean(dim=1, keepdim=True)
    return Potentials((f - mean).to(dtype), (g + mean).to(dtype), count, error.to(dtype))


def _transport_cost(a: Tensor, b: Tensor, found: Potentials, gibbs: Gibbs) -> Tensor:
    rows = max(1, ELEMENTS_AT_ONCE // gibbs.cost.numel())
    costs = []
    for x, y, f, g in zip(
        *(torch.split(t.double(), rows) for t in (a, b, found.f, found.g)), strict=True
    ):
        log_plan = (f[:, :, None] + g[:, None, :] - gibbs.cost) / gibbs.epsilon
        log_plan += x.log()[:, :, None] + y.log()[:, None, :]
        costs.append((log_plan.exp_() * gibbs.cost).sum(dim=(1, 2)))
    return torch.cat(costs).to(a.dtype)


def _check_marginals(a: Tensor, b: Tensor, gibbs: Gibbs) -> None:
    labels = len(gibbs.cost)
    for name, rows in (("a", a), ("b", b)):
        if rows.dim() != 2 or rows.shape[1] != labels or rows.shape != a.shape:
            raise ValueError(
                expected(
                    f"{name}.shape",
                    tuple(rows.shape),
                    f"be (batch, {labels}), the same for a and b",
                    "a row of label probabilities per instance",
                )
            )
        if rows.dtype not in (torch.float32, torch.float64) or rows.dtype != a.dtype:
            raise ValueError(
                expected(
                    f"{name}.dtype",
                    str(rows.dtype),
                    "be float32 or float64, the same for a and b",
                    f"{name}.float()",
                )
            )
        fixed = rows.detach()
        off = float((fixed.sum(dim=1) - 1).abs().max()) if len(rows) else 0.0
        low = float(fixed.min()) if len(rows) else 0.0
        if not (off <= MASS_TOLERANCE and low >= 0):
            raise ValueError(
                expected(
                    f"{name}: smallest value and largest |sum - 1|",
                    (low, off),
                    f"be at least 0 and at most {MASS_TOLERANCE}",
                    "a softmax",
                )
            )

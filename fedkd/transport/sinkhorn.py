"""Balanced entropic optimal transport for many pairs of distributions and one shared cost.

Convention (Cuturi 2013; Feydy et al. 2019)::

    OT_ε(a, b) = min_{P ∈ U(a, b)} <P, C> + ε KL(P | a bᵀ) = <a, f> + <b, g>

so that by the envelope theorem ∂OT_ε/∂a = f, the dual potential, and nothing is unrolled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedkd.errors import expected
from fedkd.transport.gibbs import Gibbs
from fedkd.transport.kernel_domain import scale_in_torch
from fedkd.transport.log_domain import ELEMENTS_AT_ONCE, solve_log_domain
from fedkd.transport.two_labels import solve_two_labels

try:
    from fedkd.transport.compiled import solve_compiled
except ImportError:  # numba has no wheel for this machine
    solve_compiled = None  # type: ignore[assignment]

MASS_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Potentials:
    """Dual potentials f, g (batch, labels), <a, f> + <b, g>, steps and L1 error of the marginal."""

    f: Tensor
    g: Tensor
    value: Tensor
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
            value=found.value,
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

    found = potentials(a.detach(), b, gibbs, iterations, tolerance)
    along = (a * found.f).sum(dim=1)
    return found.value + (along - along.detach())


def divergence(
    a: Tensor, b: Tensor, gibbs: Gibbs, *, iterations: int = 200, tolerance: float = 1e-3
) -> Tensor:
    """Return OT_ε(a, b) − ½ OT_ε(a, a) − ½ OT_ε(b, b) of every row, differentiable in ``a``.

    The Sinkhorn divergence (Feydy et al. 2019), for a symmetric cost: zero where a = b, whatever ε.
    Its gradient is the potential of (a, b) less that of (a, a).
    """

    def biased(x: Tensor, y: Tensor) -> Tensor:
        return sinkhorn(x, y, gibbs, iterations=iterations, tolerance=tolerance)

    fixed = a.detach()
    own = biased(a, fixed)
    # ∂OT(a, a)/∂a is twice the potential; the value must count half, the gradient once.
    return biased(a, b) - own + (own.detach() - biased(b, b)) / 2


def potentials(a: Tensor, b: Tensor, gibbs: Gibbs, iterations: int, tolerance: float) -> Potentials:
    """Return the dual potentials for rows known to be distributions; see :func:`solve`.

    Row k of ``a`` (rows, labels) serves rows k·n … k·n + n − 1 of ``b`` (rows · n, labels). One or
    two labels have a closed form. Otherwise the kernel domain serves first; rows that leave its
    range are solved again in the log domain.
    """
    repeat = len(b) // max(1, len(a))
    if len(gibbs.cost) <= 2 or not len(b):
        return _closed_form(_repeated(a, repeat), b, gibbs)
    kernel = gibbs.kernel(a.dtype, tolerance)
    if kernel is None:
        return _in_logs(_repeated(a, repeat), b, gibbs, iterations, tolerance)
    x, y = a.detach().to(kernel.dtype), b.to(kernel.dtype)
    if solve_compiled is not None and x.device.type == "cpu":
        solved = solve_compiled(x, y, gibbs, kernel, iterations=iterations, tolerance=tolerance)
        found = _typed(solved, a.dtype)
    else:
        s, q, count, error = scale_in_torch(
            _repeated(x, repeat), y, kernel, iterations=iterations, tolerance=tolerance
        )
        f, g = s.log_().mul_(-gibbs.epsilon), q.log_().mul_(-gibbs.epsilon)
        found = _centred(x, y, (f, g, count, error), a.dtype)
    if not math.isfinite(float(found.value.sum())):
        lost = ~torch.isfinite(found.value)
        again = _in_logs(_repeated(a, repeat)[lost], b[lost], gibbs, iterations, tolerance)
        for name, part in vars(found).items():
            part[lost] = getattr(again, name)
    return found


def _repeated(rows: Tensor, times: int) -> Tensor:
    return rows if times == 1 else rows.repeat_interleave(times, dim=0)


def _closed_form(a: Tensor, b: Tensor, gibbs: Gibbs) -> Potentials:
    f, g = torch.zeros(2, *b.shape, dtype=torch.float64, device=b.device)
    if len(gibbs.cost) == 2 and len(b):
        f, g = solve_two_labels(a, b, gibbs.cost, gibbs.epsilon)
    elif len(b):
        g = g + gibbs.cost.to(b.device)
    nothing = a.new_zeros(len(b))
    value = dual_value(a, b, f.to(a.dtype), g.to(a.dtype))
    return Potentials(f.to(a.dtype), g.to(a.dtype), value, nothing.long(), nothing)


def _in_logs(a: Tensor, b: Tensor, gibbs: Gibbs, iterations: int, tolerance: float) -> Potentials:
    found = solve_log_domain(
        a, b, gibbs.cost.to(a.device), gibbs.epsilon, iterations=iterations, tolerance=tolerance
    )
    return _centred(a, b, found, a.dtype)


def envelope(a: Tensor, value: Tensor | float, pull: Tensor) -> Tensor:
    """Return the scalar ``value``, whose gradient in ``a`` (batch, labels) is ``pull``.

    The backward pass keeps ``pull`` alone and has no second derivative.
    """
    along = torch.dot(a.reshape(-1), pull.reshape(-1))
    return along + (value - along.detach())


def dual_value(a: Tensor, b: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """Return <a, f> + <b, g> of every row of ``b``; ``a`` may have one row for several."""
    shared = a[:, None] * f.view(len(a), -1, f.shape[1]) if len(a) else f[:, None]
    return shared.sum(dim=2).view(-1) + (b * g).sum(dim=1)


def _centred(a: Tensor, b: Tensor, found: tuple[Tensor, ...], dtype: torch.dtype) -> Potentials:
    """Fix the free constant of (f + c, g − c) so that f has mean 0."""
    f, g, count, error = found
    mean = f.mean(dim=1, keepdim=True)
    f, g = f - mean, g + mean
    return _typed((f, g, dual_value(a.to(f.dtype), b.to(f.dtype), f, g), count, error), dtype)


def _typed(found: tuple[Tensor, ...], dtype: torch.dtype) -> Potentials:
    f, g, value, count, error = found
    return Potentials(f.to(dtype), g.to(dtype), value.to(dtype), count, error.to(dtype))


def _transport_cost(a: Tensor, b: Tensor, found: Potentials, gibbs: Gibbs) -> Tensor:
    rows, cost = max(1, ELEMENTS_AT_ONCE // gibbs.cost.numel()), gibbs.cost.to(a.device)
    costs = []
    for x, y, f, g in zip(
        *(torch.split(t.double(), rows) for t in (a, b, found.f, found.g)), strict=True
    ):
        log_plan = (f[:, :, None] + g[:, None, :] - cost) / gibbs.epsilon
        log_plan += x.log()[:, :, None] + y.log()[:, None, :]
        costs.append((log_plan.exp_() * cost).sum(dim=(1, 2)))
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

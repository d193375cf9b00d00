"""Wasserstein barycentres of label distributions on their common support."""

from __future__ import annotations

import torch
from torch import Tensor

from fedkd.errors import ScenarioError, expected
from fedkd.transport.gibbs import RANGE_FLOAT64

CHECK_EVERY = 5
PLAIN_STEPS = 4  # before over-relaxation, which is safe only near the solution
ROUGH = 1e-5  # what float32 can settle to
RANGE_ROUGH = 40.0
NO_MASS = 1e-30


def barycentre(
    probs: Tensor,
    weights: Tensor,
    cost: Tensor,
    epsilon: float,
    *,
    iterations: int = 5000,
    tolerance: float = 1e-6,
) -> tuple[Tensor, int]:
    """Return argmin_q Σ_k w_k OT(q, p_k) of every row and how many rows had not settled.

    Entropic barycentre by iterative Bregman projections (Benamou et al. 2015, SIAM J. Sci. Comput.
    37(2), section 3.2): u_k = p_k/(G v_k), q = Π_k (Gᵀu_k)^{w_k}, v_k = q/(Gᵀu_k), from v_k = 1;
    both steps are taken to the power 3/2, which keeps Π_k v_k^{w_k} = 1 and needs about half of
    them. Float32 goes most of the way, float64 the rest.

    ``probs`` is (rows, teachers, labels), ``weights`` (rows, teachers); rows of either are made to
    sum to one. ``cost`` is (labels, labels) and ``epsilon`` in the cost's unit; returns
    (rows, labels) float64.
    A row has settled when the L1 change of q over five steps is at most ``tolerance``. Raises
    :class:`ScenarioError` where exp(−C/ε) leaves float64's range.
    """
    cost = cost.double().to(probs.device)
    if not 0 < float(cost.max()) / RANGE_FLOAT64 <= epsilon and len(cost) > 1:
        raise ScenarioError(
            expected(
                "epsilon",
                epsilon,
                f"be at least 1/{RANGE_FLOAT64:.0f} of the largest cost for a barycentre",
                f"{float(cost.max()) / RANGE_FLOAT64:.2g} or more",
            )
        )
    kernel = torch.exp(-cost / epsilon)
    p, w = probs.double().clamp(min=NO_MASS), weights.double()[:, :, None]
    p, w = p / p.sum(dim=2, keepdim=True), w / w.sum(dim=1, keepdim=True)
    v = torch.ones_like(p)
    if float(cost.max()) <= RANGE_ROUGH * epsilon and tolerance < ROUGH:
        _, rough, _ = _project(
            p.float(), w.float(), kernel.float(), v.float(), iterations=iterations, tolerance=ROUGH
        )
        usable = torch.isfinite(rough).all(dim=2).all(dim=1)
        v = torch.where(usable[:, None, None], rough.double(), v)
    result, _, restless = _project(p, w, kernel, v, iterations=iterations, tolerance=tolerance)
    return result / result.sum(dim=1, keepdim=True), restless


def _project(
    p: Tensor, w: Tensor, kernel: Tensor, v: Tensor, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, int]:
    """Return q (rows, labels), v (rows, teachers, labels) and the number of rows still moving."""
    result, scaled = torch.empty_like(p[:, 0]), v.clone()
    rows = torch.arange(len(p), device=p.device)
    before = torch.full_like(result, 2.0)
    u = p
    for step in range(1, iterations + 1):
        sums = v @ kernel.T
        u = p / sums if step <= PLAIN_STEPS else _relaxed(u, p / (sums * u))
        spread = u @ kernel
        q = (w * spread.log()).sum(dim=1).exp()
        target = q[:, None] / spread
        v = target if step <= PLAIN_STEPS else _relaxed(v, target / v)
        if step % CHECK_EVERY and step != iterations:
            continue
        moving = (q - before).abs().sum(dim=1) > tolerance
        result[rows], scaled[rows], before = q, v, q
        if step == iterations or not bool(moving.any()):
            rows = rows[moving]
            break
        if not bool(moving.all()):
            before, rows, p, w = q[moving], rows[moving], p[moving], w[moving]
            u, v = u[moving], v[moving]
    return result, scaled, len(rows)


def _relaxed(old: Tensor, ratio: Tensor) -> Tensor:
    return old * ratio * ratio.sqrt()

"""Wasserstein barycentres of label distributions on their common support."""

from __future__ import annotations

import torch
from torch import Tensor

from fedkd.errors import ScenarioError, expected
from fedkd.transport.sinkhorn import RANGE_FLOAT64

CHECK_EVERY = 10


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
    37(2), section 3.2): u_k = p_k/(G v_k), q = Π_k (Gᵀu_k)^{w_k}, v_k = q/(Gᵀu_k), from v_k = 1.
    ``probs`` is (rows, teachers, labels), ``weights`` (rows, teachers); rows of either are made to
    sum to one. ``cost`` is (labels, labels) and ``epsilon`` in the cost's unit; returns
    (rows, labels) float64.
    A row has settled when the L1 change of q over ten steps is at most ``tolerance``. Raises
    :class:`ScenarioError` where exp(−C/ε) leaves float64's range.
    """
    cost = cost.double()
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
    p, w = probs.double(), weights.double()[:, :, None]
    p, w = p / p.sum(dim=2, keepdim=True), w / w.sum(dim=1, keepdim=True)
    result = p.new_empty(p.shape[0], p.shape[2])
    rows = torch.arange(len(p))
    v = torch.ones_like(p)
    before = (w * p).sum(dim=1)
    for step in range(1, iterations + 1):
        spread = (p / (v @ kernel.T)) @ kernel
        q = (w * spread.log()).sum(dim=1).exp()
        v = q[:, None] / spread
        if step % CHECK_EVERY and step != iterations:
            continue
        moving = (q - before).abs().sum(dim=1) > tolerance
        result[rows] = q
        if step == iterations or not bool(moving.any()):
            rows = rows[moving]
            break
        before, rows, p, w, v = q[moving], rows[moving], p[moving], w[moving], v[moving]
    return result / result.sum(dim=1, keepdim=True), len(rows)

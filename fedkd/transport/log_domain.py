"""Sinkhorn in the log domain and float64: slow, but safe at any regularisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ELEMENTS_AT_ONCE = 2**22
STEPS_PER_TEMPERATURE = 2


def solve_log_domain(
    a: Tensor, b: Tensor, cost: Tensor, epsilon: float, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return f, g (batch, labels), iterations and L1 marginal error (batch,); all but one float64.

    Schmitzer, SIAM J. Sci. Comput. 2019: ε is halved from the largest cost down to ``epsilon``, two
    steps at each; ``iterations`` bounds the steps at ``epsilon`` itself, the count includes all.
    """
    a, b, cost = a.double(), b.double(), cost.double()
    rows = max(1, ELEMENTS_AT_ONCE // max(1, cost.numel()))
    parts = [
        _solve(x, y, cost, epsilon, iterations=iterations, tolerance=tolerance)
        for x, y in zip(torch.split(a, rows), torch.split(b, rows), strict=True)
    ]
    f, g, count, error = (torch.cat(part) for part in zip(*parts, strict=True))
    return f, g, count, error


def soft_minimum(height: Tensor, cost: Tensor, epsilon: float) -> Tensor:
    """Return −ε log Σ_j exp(height_j − C_ij/ε), (batch, labels)."""
    return -epsilon * torch.logsumexp(height[:, None, :] - cost / epsilon, dim=2)


def _solve(
    a: Tensor, b: Tensor, cost: Tensor, epsilon: float, *, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    log_a, log_b, back = a.log(), b.log(), cost.T
    f, g = torch.empty_like(a), torch.zeros_like(b)
    annealed = 0
    for temperature in _temperatures(float(cost.max()), epsilon):
        for _ in range(STEPS_PER_TEMPERATURE):
            f = soft_minimum(log_b + g / temperature, cost, temperature)
            g = soft_minimum(log_a + f / temperature, back, temperature)
            annealed += 1
    f = soft_minimum(log_b + g / epsilon, cost, epsilon)
    count = torch.full((len(a),), annealed + iterations, device=a.device)
    error = torch.full_like(a[:, 0], math.inf)
    rows = torch.arange(len(a), device=a.device)
    for step in range(1, iterations + 1):
        old = f[rows]
        g[rows] = soft_minimum(log_a[rows] + old / epsilon, back, epsilon)
        f[rows] = new = soft_minimum(log_b[rows] + g[rows] / epsilon, cost, epsilon)
        # Clamped because f may fall far in one step where a is 0, and 0 · ∞ is not a number.
        drift = ((old - new) / epsilon).clamp(max=50.0).exp().sub(1).abs()
        error[rows] = (a[rows] * drift).sum(dim=1)
        moving = error[rows] > tolerance
        count[rows[~moving]] = annealed + step
        rows = rows[moving]
        if not len(rows):
            break
    g = soft_minimum(log_a + f / epsilon, back, epsilon)
    return f, g, count, error


def _temperatures(largest: float, epsilon: float) -> list[float]:
    halvings = max(0, math.ceil(math.log2(largest / epsilon))) if largest > 0 else 0
    return [largest / 2**step for step in range(halvings)]

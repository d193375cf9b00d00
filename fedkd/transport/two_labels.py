"""Entropic transport between two labels in closed form, for any ε."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def solve_two_labels(a: Tensor, b: Tensor, cost: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return f, g (batch, 2) float64, exact, for ``cost`` (2, 2) with a diagonal no dearer.

    A plan P with marginals a, b is optimal where P_00 P_11 / (P_01 P_10) = e^{Δ/ε} with
    Δ = C_01 + C_10 − C_00 − C_11 >= 0: a quadratic in one entry of P. Its root is written
    D_ij = P_ij/(a_i b_j) = 2 ρ_ij/(B_ij + S) with ρ = 1 on the diagonal and r = e^{−Δ/ε} off it,
    B_ij = ρ'_ij + (ρ_ij − ρ'_ij)(a_i + b_j), ρ' = r or 1, and one S; no two near numbers are
    subtracted. Then f_i + g_j = C_ij + ε log D_ij for all i, j.
    """
    a, b = a.double(), b.double()
    gap = float(cost[0, 1] + cost[1, 0] - cost[0, 0] - cost[1, 1])
    r = torch.tensor(gap / -epsilon, dtype=torch.float64, device=a.device).exp()
    less = b[:, :1] - a[:, :1]
    both = a[:, :1] + b[:, :1]
    bracket = both * (2 - both)
    s = ((1 - r) * less**2 + r * (r + (1 - r) * bracket)).sqrt()[:, :, None]
    off = r + (1 - r) * torch.stack([-both, less, -less, both - 2], dim=2).view(-1, 2, 2)
    eye = torch.eye(2, dtype=torch.float64, device=a.device)
    middle = torch.where(eye > 0, r + (1 - r) * (a[:, :, None] + b[:, None, :]), off)
    mass = a[:, :, None] * b[:, None, :]
    # Where r underflows and a = b, B + S is √(r · bracket), or 2r where the bracket is 0 as well.
    least = ((bracket.log() - gap / epsilon) / 2).clamp(min=-gap / epsilon)
    log_sum = torch.where(middle + s > 0, (middle + s).log(), least[:, :, None])
    log_density = math.log(2) - log_sum - (1 - eye) * (gap / epsilon)
    # Off the diagonal B may be negative, and B + S = 4 r (1 − r) a_i b_j / (S − B) then.
    other = ((s - middle) / (2 * (1 - r) * mass)).log()
    log_density = torch.where((middle < 0) & (mass > 0), other, log_density)
    total = cost.double().to(a.device) + epsilon * log_density
    rows = torch.arange(len(a), device=a.device)
    likely = b.argmax(dim=1)
    half = (total[rows, 0, likely] - total[rows, 1, likely]) / 2
    f = torch.stack([half, -half], dim=1)
    surest = a.argmax(dim=1)
    g = total[rows, surest] - f[rows, surest][:, None]
    return f, g

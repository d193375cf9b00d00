"""Wasserstein distances and barycentres of Gaussians with diagonal covariance, in closed form."""

from __future__ import annotations

from torch import Tensor


def gaussian_w2(mean: Tensor, spread: Tensor, other_mean: Tensor, other_spread: Tensor) -> Tensor:
    """Return W₂² = ‖m − m′‖² + ‖σ − σ′‖² over the last axis; ``spread`` holds σ >= 0."""
    return ((mean - other_mean) ** 2).sum(dim=-1) + ((spread - other_spread) ** 2).sum(dim=-1)


def gaussian_barycentre(means: Tensor, spreads: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread (..., d) of argmin_q Σ_k w_k W₂²(q, p_k): the weighted averages.

    ``means`` and ``spreads`` are (..., teachers, d), ``weights`` (..., teachers), made to sum to
    one. Since Σ_k w_k W₂²(q, p_k) = W₂²(q, barycentre) + a constant, no loss need visit the
    teachers again.
    """
    share = (weights / weights.sum(dim=-1, keepdim=True))[..., None]
    return (share * means).sum(dim=-2), (share * spreads).sum(dim=-2)

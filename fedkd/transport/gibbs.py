"""The Gibbs kernel exp(−C/ε) of a ground cost, prepared once for many solves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedkd.errors import expected

# Scalings u, v reach exp(±max C/ε) and meet in products, so each dtype holds part of its range.
RANGE_FLOAT32 = 60.0
RANGE_FLOAT64 = 300.0
FINEST_FLOAT32 = 1e-5
TILE = 8


@dataclass(frozen=True)
class Packed:
    """A kernel without its diagonal, and its transpose, in tiles; the diagonal; the mean rest."""

    forth: Tensor
    back: Tensor
    diagonal: Tensor
    mean: float


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

    def packed(self, kernel: Tensor) -> Packed:
        """Return ``kernel`` and its transpose in tiles, as the compiled solver reads them."""
        return self._packed_single if kernel is self.single else self._packed_double

    @cached_property
    def _packed_single(self) -> Packed:
        return _pack_both(self.single)

    @cached_property
    def _packed_double(self) -> Packed:
        return _pack_both(self.double)


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


def _pack_both(kernel: Tensor | None) -> Packed:
    assert kernel is not None
    labels = len(kernel)
    diagonal = kernel.new_ones(-(-labels // TILE) * TILE)
    diagonal[:labels] = kernel.diagonal()
    rest = kernel - torch.diag(kernel.diagonal())
    forth = _pack(rest)
    back = forth if torch.equal(rest, rest.T) else _pack(rest.T)
    return Packed(forth, back, diagonal, float(rest.sum()) / max(1, labels * (labels - 1)))


def _pack(kernel: Tensor) -> Tensor:
    """Return the rows in groups of eight, each group column by column, flat; zeros fill it up."""
    labels = len(kernel)
    padded = kernel.new_zeros(-(-labels // TILE) * TILE, labels)
    padded[:labels] = kernel
    return padded.view(-1, TILE, labels).transpose(1, 2).reshape(-1).contiguous()

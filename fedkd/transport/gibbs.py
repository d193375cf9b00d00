"""The Gibbs kernel exp(−C/ε) of a ground cost, prepared once for many solves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedkd.errors import expected

# Scalings u, v reach exp(±max C/ε) and meet in products, so each dtype holds part of its range.
RANGE_FLOAT32 = 60.0
RANGE_FLOAT64 = 300.0
FINEST_FLOAT32 = 1e-5
VECTOR_BYTES = 64


@dataclass(frozen=True)
class Packed:
    """A kernel G as the compiled solver reads it: G D⁻¹ with D its diagonal, which is left out.

    ``forth`` and its transpose ``back`` are flat panels (columns/VECTOR, labels, VECTOR), with
    zeros for the columns that fill the last. ``filler`` is one there and zero elsewhere, ``tilt``
    log D; ``mean`` is that of the entries.
    """

    forth: Tensor
    back: Tensor
    filler: Tensor
    tilt: Tensor
    mean: float

    @cached_property
    def arrays(self) -> tuple[NDArray[np.floating], ...]:
        """The tensors as arrays, in order."""
        return tuple(part.numpy() for part in (self.forth, self.back, self.filler, self.tilt))


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

    def packed(self, like: Tensor) -> Packed:
        """Return the kernel as the compiled solver reads it, in the dtype of ``like``."""
        return self._packed_single if like.dtype == torch.float32 else self._packed_double

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
    labels, vector = len(kernel), VECTOR_BYTES // kernel.element_size()
    own = kernel.diagonal()
    rest = kernel / own - torch.eye(labels, dtype=kernel.dtype)
    more = (0, -labels % vector)
    return Packed(
        forth=_panels(rest, vector),
        back=_panels(rest.T, vector),
        filler=functional.pad(torch.zeros_like(own), more, value=1.0),
        tilt=functional.pad(own.log(), more),
        mean=float(rest.sum()) / max(1, labels * (labels - 1)),
    )


def _panels(grid: Tensor, vector: int) -> Tensor:
    labels = len(grid)
    filled = functional.pad(grid, (0, -labels % vector))
    return filled.view(labels, -1, vector).transpose(0, 1).reshape(-1).contiguous()

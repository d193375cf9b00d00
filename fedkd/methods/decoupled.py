"""LELP's decoupled objective with its gradient in closed form, in one compiled pass."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Aim:
    """What students of a run are taught: p and q of all rows, and how the two terms count.

    ``soft`` (n, labels) and ``fine`` (n, heads, labels, S) are float32 on the CPU; ``temperature``
    is τ, ``share`` λ.
    """

    soft: Tensor
    fine: Tensor
    temperature: float
    share: float


def balance(soft: Tensor, fine: Tensor, temperature: float) -> float:
    """Return how much of the subclass term keeps it from teaching more than the labels do, ≤ 1.

    What a term can teach is what it falls by from a student that ignores its input to one that is
    right: the mutual information of rows and labels at τ, times τ², and that of rows and
    subclasses given the label. Teachers that are sure of their labels get 1. Unsure ones say
    little of labels at a high τ, while their scores are scaled to say as much as ever of
    subclasses: unbalanced, these then take the student over.
    """
    soft, fine = soft.double(), fine.double()
    labels = temperature**2 * (entropy(soft.mean(dim=0)) - entropy(soft) / len(soft))
    known = [entropy(part) - entropy(part.sum(dim=-1)) for part in (fine.mean(dim=0), fine)]
    subclasses = known[0] - known[1] / len(fine)
    return float(min(1.0, max(0.0, float(labels)) / max(float(subclasses), 1e-12)))


def entropy(masses: Tensor) -> Tensor:
    """Return −Σ m log m over all of a tensor, 0 log 0 being 0."""
    return -torch.xlogy(masses, masses).sum()


class Decoupled(torch.autograd.Function):
    """τ² CE(p, softmax(a/τ)) − λ Σ_h Σ_c Σ_s q log softmax_s(f), the mean over a batch.

    With a_hc = log Σ_s exp f_hcs, a their mean over the H heads, r̂ = softmax_s f and
    m_hc = Σ_s q_hcs, the gradient is

        ∂L/∂f_hcs = r̂_hcs (τ (Σp · softmax(a/τ) − p)_c / H + λ m_hc) − λ q_hcs

    over the batch size: everything that the loss computes anyway. Autograd would walk back
    through a dozen small steps, which for a small student costs more than the student.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, aim: Aim, rows: Tensor) -> Tensor:
        """Return the loss, and keep its gradient."""
        values = outputs.detach().contiguous()
        slope = torch.empty_like(values)
        loss = _pass(
            values.numpy(), aim.fine.numpy(), aim.soft.numpy(), rows.numpy(),
            aim.temperature, aim.share, slope.numpy(),
        )  # fmt: skip
        ctx.slope = slope
        return values.new_tensor(loss)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        """Return the kept gradient, times that of what the loss feeds."""
        return ctx.slope * outer, None, None


def decoupled(outputs: Tensor, aim: Aim, rows: Tensor) -> Tensor:
    """Return the batch mean of the decoupled objective of ``outputs`` (batch, heads, labels, S).

    ``rows`` (batch,) int64 are the batch's among the aim's. On the CPU one compiled pass makes the
    loss and its gradient; elsewhere :func:`written_out` does.
    """
    if outputs.device.type != "cpu":
        return written_out(outputs, aim, rows)
    found: Tensor = Decoupled.apply(outputs, aim, rows)  # type: ignore[no-untyped-call]  # torch's
    return found


def written_out(outputs: Tensor, aim: Aim, rows: Tensor) -> Tensor:
    """Return the same in a few differentiable lines."""
    fine, soft = aim.fine[rows].to(outputs), aim.soft[rows].to(outputs)
    labels = outputs.logsumexp(dim=3)
    inside = (fine * (labels.unsqueeze(3) - outputs)).sum()
    log_labels = torch.log_softmax(labels.mean(dim=1) / aim.temperature, dim=1)
    return (aim.share * inside - aim.temperature**2 * (soft * log_labels).sum()) / len(outputs)


@njit(cache=True, nogil=True, error_model="numpy")
def _pass(  # noqa: PLR0917
    outputs: Floats, fine: Floats, soft: Floats, rows: NDArray[np.int64],
    temperature: float, share: float, slope: Floats,
) -> float:  # fmt: skip
    """Fill ``slope`` with the gradient and return the loss; the arithmetic is in float64."""
    size, heads, labels, subclasses = outputs.shape
    merged, total = np.empty(labels), 0.0
    for i in range(size):
        row = rows[i]
        merged[:] = 0.0
        for h in range(heads):
            for c in range(labels):
                top = outputs[i, h, c, 0]
                for s in range(1, subclasses):
                    top = max(top, outputs[i, h, c, s])
                mass = 0.0
                for s in range(subclasses):
                    raised = exp(outputs[i, h, c, s] - top)
                    slope[i, h, c, s] = raised
                    mass += raised
                known = log(mass) + top
                merged[c] += known / heads
                for s in range(subclasses):
                    slope[i, h, c, s] /= mass
                    total += share * fine[row, h, c, s] * (known - outputs[i, h, c, s])
        high = merged.max() / temperature
        mass, whole = 0.0, 0.0
        for c in range(labels):
            mass += exp(merged[c] / temperature - high)
            whole += soft[row, c]
        for c in range(labels):
            likely = merged[c] / temperature - high - log(mass)
            total -= temperature * temperature * soft[row, c] * likely
            apart = temperature * (exp(likely) * whole - soft[row, c]) / heads
            for h in range(heads):
                pull = apart
                for s in range(subclasses):
                    pull += share * fine[row, h, c, s]
                for s in range(subclasses):
                    found = slope[i, h, c, s] * pull - share * fine[row, h, c, s]
                    slope[i, h, c, s] = found / size
    mean: float = total / size
    return mean

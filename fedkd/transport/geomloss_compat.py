"""The unconverged Sinkhorn of the published KNOT code, for parity with it.

Emulates ``geomloss.SamplesLoss("sinkhorn", p=1, blur=1e-3, scaling=0.5, debias=False)``: one
symmetric averaged step for each ε of a schedule that halves from the diameter to the blur, then
one extrapolation (Feydy, thesis 2020, algorithm 3.5). Correctness does not ask for this; the
values lie well below the optimum.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedkd.transport.log_domain import soft_minimum
from fedkd.transport.sinkhorn import dual_value

BLUR = 1e-3
LOG_OF_ZERO = -100_000.0
SMALLEST_DISTANCE = 1e-4


def geomloss_cost(points: Tensor) -> Tensor:
    """Return Euclidean distances of ``points`` (labels, d), never below 1e-4, diagonal included."""
    return torch.cdist(points, points).clamp(min=SMALLEST_DISTANCE)


def geomloss_schedule(points: Tensor) -> tuple[float, ...]:
    """Return the values of ε: the diagonal of the points' bounding box halved down to the blur."""
    box = points.max(dim=0).values - points.min(dim=0).values
    diameter = float(box.norm())
    steps = np.exp(np.arange(np.log(diameter), np.log(BLUR), np.log(0.5)))
    return (diameter, *steps.tolist(), BLUR)


def geomloss_solve(
    a: Tensor, b: Tensor, cost: Tensor, schedule: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Return (f, value): (batch, labels) and (batch,), in the dtype of ``a`` and ``b``."""
    log_a, log_b, back = _log(a), _log(b), cost.T
    g = soft_minimum(log_a, back, schedule[0])
    f = soft_minimum(log_b, cost, schedule[0])
    for epsilon in schedule:
        f, g = (
            (f + soft_minimum(log_b + g / epsilon, cost, epsilon)) / 2,
            (g + soft_minimum(log_a + f / epsilon, back, epsilon)) / 2,
        )
    f, g = (
        soft_minimum(log_b + g / BLUR, cost, BLUR),
        soft_minimum(log_a + f / BLUR, back, BLUR),
    )
    return f, dual_value(a, b, f, g)


def _log(rows: Tensor) -> Tensor:
    return torch.where(rows > 0, rows.log(), LOG_OF_ZERO)

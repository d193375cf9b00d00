"""Which way transport is computed: in closed form where the cost allows it, else by Sinkhorn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from fedkd.errors import ScenarioError, expected
from fedkd.transport.exact import l1_matrix
from fedkd.transport.geomloss_compat import geomloss_cost, geomloss_schedule, geomloss_solve
from fedkd.transport.gibbs import Gibbs, gibbs_kernel
from fedkd.transport.ground_cost import LabelSpace
from fedkd.transport.sinkhorn import envelope, potentials

Solver = Literal["auto", "sinkhorn", "geomloss_compat"]


class Transport(Protocol):
    """Transport with one fixed cost from students to targets prepared once."""

    def prepare(self, targets: Tensor) -> Tensor:
        """Return (..., width) of what later calls need of ``targets`` (..., labels)."""

    def values(self, student: Tensor, prepared: Tensor) -> Tensor:
        """Return the transport of ``student`` (batch, labels) to each target, (batch, teachers).

        ``prepared`` is (batch, teachers, width). Differentiable in ``student``.
        """


@dataclass(frozen=True)
class ClosedForm:
    """OT(a, b) = ‖aM − bM‖₁, exactly; ``matrix`` M is (labels, width)."""

    matrix: Tensor

    def prepare(self, targets: Tensor) -> Tensor:
        """Return ``targets`` M."""
        return (targets.double() @ self.matrix).to(targets.dtype)

    def values(self, student: Tensor, prepared: Tensor) -> Tensor:
        """Return ‖sM − pM‖₁ of every pair."""
        return ((student @ self.matrix.to(student.dtype))[:, None] - prepared).abs().sum(dim=2)


@dataclass
class Tally:
    """How many pairs were solved, and how many of them stopped before their tolerance."""

    solved: int = 0
    unconverged: int = 0


@dataclass(frozen=True)
class Entropic:
    """OT_ε by Sinkhorn with one shared kernel; ``tally`` counts what did not converge."""

    gibbs: Gibbs
    iterations: int
    tolerance: float
    tally: Tally = field(default_factory=Tally)

    def prepare(self, targets: Tensor) -> Tensor:
        """Return the targets as they are."""
        return targets

    def values(self, student: Tensor, prepared: Tensor) -> Tensor:
        """Return OT_ε of every pair, with the envelope gradient."""
        return envelope(student, prepared, self._solve)

    def _solve(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        found = potentials(a, b, self.gibbs, self.iterations, self.tolerance)
        self.tally.solved += len(b)
        self.tally.unconverged += int((~(found.error <= self.tolerance)).sum())
        return found.f, found.value


@dataclass(frozen=True)
class GeomlossCompat:
    """The published code's unconverged Sinkhorn; ``cost`` (labels, labels) has no zeros."""

    cost: Tensor
    schedule: tuple[float, ...]

    def prepare(self, targets: Tensor) -> Tensor:
        """Return the targets as they are."""
        return targets

    def values(self, student: Tensor, prepared: Tensor) -> Tensor:
        """Return geomloss's value of every pair, with its gradient."""
        return envelope(student, prepared, self._solve)

    def _solve(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a = a.repeat_interleave(len(b) // max(1, len(a)), dim=0)
        return geomloss_solve(a, b, self.cost.to(a.dtype), self.schedule)


def choose_path(
    space: LabelSpace,
    *,
    solver: Solver = "auto",
    epsilon: float = 0.05,
    iterations: int = 200,
    tolerance: float = 1e-3,
) -> ClosedForm | Entropic | GeomlossCompat:
    """Return the transport for a label space; ``epsilon`` is a share of the largest cost.

    ``auto`` takes a closed form where the cost itself shows one (two labels, equal costs, a line)
    and Sinkhorn elsewhere. Raises :class:`ScenarioError` where ``geomloss_compat`` is asked for
    labels without points at power 1.
    """
    cost = torch.as_tensor(space.cost, dtype=torch.float64)
    if solver == "geomloss_compat" and len(cost) > 1:
        if space.points is None:
            raise ScenarioError(
                expected(
                    "solver",
                    solver,
                    "have labels at points and labels.power = 1",
                    "solver = 'sinkhorn', or another geometry than 'matrix'",
                )
            )
        points = torch.as_tensor(space.points, dtype=torch.float64)
        return GeomlossCompat(geomloss_cost(points), geomloss_schedule(points))
    matrix = None if solver == "sinkhorn" else l1_matrix(cost)
    if matrix is not None:
        return ClosedForm(matrix)
    return Entropic(gibbs_kernel(cost, epsilon * (float(cost.max()) or 1.0)), iterations, tolerance)

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

try:
    from fedkd.transport.compiled import fill, total_compiled
except ImportError:  # numba has no wheel for this machine
    fill = total_compiled = None  # type: ignore[assignment]

Solver = Literal["auto", "sinkhorn", "geomloss_compat"]


class Transport(Protocol):
    """Transport with one fixed cost from students to targets prepared once."""

    def prepare(self, targets: Tensor) -> Tensor:
        """Return (..., width) float32 of what later calls need of ``targets`` (..., labels)."""

    def total(self, student: Tensor, prepared: Tensor, shares: Tensor, rows: Tensor) -> Tensor:
        """Return Σ_rows Σ_k share_k OT(student, target_k), differentiable in ``student``.

        ``student`` is (batch, labels); ``rows`` (batch,) int64 says which of ``prepared`` (rows,
        teachers, width) and ``shares`` (rows, teachers) belong to it.
        """


@dataclass(frozen=True)
class ClosedForm:
    """OT(a, b) = ‖aM − bM‖₁, exactly; ``matrix`` M is (labels, width)."""

    matrix: Tensor

    def prepare(self, targets: Tensor) -> Tensor:
        """Return ``targets`` M."""
        return (targets.double() @ self.matrix.to(targets.device)).to(targets.dtype)

    def total(self, student: Tensor, prepared: Tensor, shares: Tensor, rows: Tensor) -> Tensor:
        """Return the sum of share_k ‖sM − p_k M‖₁."""
        moved = (student @ self.matrix.to(student))[:, None]
        apart = (moved - prepared[rows].to(student.dtype)).abs().sum(dim=2)
        return (shares[rows].to(student.dtype) * apart).sum()


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
        """Return the targets, filled up to whole vectors where the compiled solver reads them."""
        return fill(targets, self.gibbs) if self._fast(targets) else targets

    def total(self, student: Tensor, prepared: Tensor, shares: Tensor, rows: Tensor) -> Tensor:
        """Return the sum of share_k OT_ε, with the envelope gradient."""
        fixed = student.detach()
        if self._fast(student) and len(rows):
            found = total_compiled(
                fixed, prepared, shares, rows, self.gibbs,
                iterations=self.iterations, tolerance=self.tolerance,
            )  # fmt: skip
            if found is not None:
                value, pull, converged = found
                self._count(len(rows) * shares.shape[1], converged)
                return envelope(student, value, pull)
        targets = prepared[rows][..., : student.shape[1]].to(student.dtype)
        flat = targets.reshape(-1, student.shape[1])
        solved = potentials(fixed, flat, self.gibbs, self.iterations, self.tolerance)
        self._count(len(flat), int((solved.error <= self.tolerance).sum()))
        return _weighted(student, solved.f, solved.value, shares[rows])

    def _fast(self, like: Tensor) -> bool:
        kernel = self.gibbs.kernel(torch.float32, self.tolerance)
        return (
            total_compiled is not None
            and len(self.gibbs.cost) > 2
            and kernel is not None
            and kernel.dtype == like.dtype == torch.float32
            and like.device.type == "cpu"
        )

    def _count(self, solved: int, converged: int) -> None:
        self.tally.solved += solved
        self.tally.unconverged += solved - converged


@dataclass(frozen=True)
class GeomlossCompat:
    """The published code's unconverged Sinkhorn; ``cost`` (labels, labels) has no zeros."""

    cost: Tensor
    schedule: tuple[float, ...]

    def prepare(self, targets: Tensor) -> Tensor:
        """Return the targets as they are."""
        return targets

    def total(self, student: Tensor, prepared: Tensor, shares: Tensor, rows: Tensor) -> Tensor:
        """Return the weighted sum of geomloss's values, with its gradient."""
        targets = prepared[rows].to(student.dtype)
        b = targets.reshape(-1, student.shape[1])
        a = student.detach().repeat_interleave(targets.shape[1], dim=0)
        f, value = geomloss_solve(a, b, self.cost.to(a), self.schedule)
        return _weighted(student, f, value, shares[rows])


def _weighted(student: Tensor, f: Tensor, value: Tensor, shares: Tensor) -> Tensor:
    shares = shares.to(f.dtype)
    pull = torch.einsum("bt,btk->bk", shares, f.reshape(*shares.shape, f.shape[1]))
    return envelope(student, (shares * value.view(shares.shape)).sum(), pull)


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

"""KNOT: distillation by weighted optimal transport (Bhardwaj et al., COLING 2022)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.errors import expected
from fedkd.intake import Intake
from fedkd.methods.method import (
    Method,
    Targets,
    check_logits,
    cross_entropy,
    stack,
    weighted_sum,
)
from fedkd.methods.middle import barycentres
from fedkd.methods.weights import teacher_weights
from fedkd.scenario import Geometry
from fedkd.transport.ground_cost import LabelSpace
from fedkd.transport.path import Solver, Transport, choose_path

# 256 MiB of float32: more of the teachers than that stays on disk.
MOST_HELD = 2**26
Positive = Annotated[float, Field(gt=0)]


class Knot(Method):
    """Move the student's label distribution to the teachers', paying the ground cost (E5).

    ``objective``:

    - ``sum``: (1/B) Σ_x Σ_k w_k OT(s, p_k), as the published code does it
    - ``mixture``: (1/B) Σ_x OT(s, Σ_k w_k p_k), as the abstract words it
    - ``barycentre``: cross-entropy to the Wasserstein barycentre of the teachers

    ``cross_entropy`` is the share λ of −Σ p̄ log s added, which keeps a gradient where s_c → 0.
    """

    name: Literal["knot"] = "knot"
    objective: Literal["sum", "mixture", "barycentre"] = Field(
        "sum", description="transport to each teacher, to their mixture, or to their barycentre"
    )
    geometry: Geometry | None = Field(None, description="replaces labels.geometry")
    epsilon: Positive = Field(0.05, description="regularisation, a share of the largest cost")
    iterations: Annotated[int, Field(ge=1)] = Field(200, description="most steps of one solve")
    tolerance: Positive = Field(1e-2, description="L1 error of a marginal at which a solve stops")
    solver: Solver = Field("auto", description="auto takes a closed form where the cost has one")
    cross_entropy: Annotated[float, Field(ge=0)] = Field(
        0.0, description="share of cross-entropy added"
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.objective != "sum" and not self.normalise_weights:
            raise ValueError(
                expected(
                    "normalise_weights",
                    False,
                    f"be true for objective = {self.objective!r}, which mixes distributions",
                    "objective = 'sum'",
                )
            )
        if self.objective == "barycentre" and self.solver != "auto":
            raise ValueError(
                expected(
                    "solver",
                    self.solver,
                    "be 'auto' for objective = 'barycentre', which has its own",
                    "dropping it",
                )
            )
        return self

    @property
    def recipe(self) -> str:
        """``knot/<objective>/<weights>``, then the geometry and solver where they are set."""
        extras = (self.geometry, "geomloss" if self.solver == "geomloss_compat" else None)
        return "/".join(("knot", self.objective, self.weights, *(e for e in extras if e)))

    @property
    def needs_each_teacher(self) -> str | None:
        """Only the mixture objective lives on the mixture."""
        if self.objective == "mixture":
            return None
        return f"objective {self.objective!r} transports to, or from, each teacher"

    @property
    def ground(self) -> Geometry | None:
        """The geometry named here, if any."""
        return self.geometry

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the mixture or barycentre as ``probs``; what transport needs as ``prepared``."""
        if self.geometry is not None and space.geometry != self.geometry:
            raise ValueError(
                expected(
                    "space.geometry",
                    space.geometry,
                    f"equal {self.geometry!r}",
                    "label_space(..., geometry=method.ground)",
                )
            )
        if self.objective == "barycentre":
            return self._barycentres(intake, space)
        numbers = intake.rows * len(intake.parties) * intake.labels
        if self.objective == "sum" and numbers > MOST_HELD:
            return self._read_later(intake, space)
        mixture, weights, *teachers = stack(
            [
                (
                    weighted_sum(weights, probs),
                    weights.T,
                    *([probs.transpose(1, 0, 2)] if self.objective == "sum" else []),
                )
                for probs, weights in self.blocks(intake)
            ]
        )
        transport = self._transport(space)
        ends = teachers[0] if teachers else mixture[:, None]
        shares = weights if teachers else torch.ones(len(mixture), 1)
        return Targets(
            probs=mixture,
            weights=weights,
            space=space,
            tensors={"prepared": transport.prepare(ends), "shares": shares},
            transport=transport,
        )

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of the objective; its gradient is ∂OT/∂s = f (E6)."""
        check_logits(logits, targets)
        if targets.transport is None or not len(logits):
            return cross_entropy(logits, targets.probs[rows])
        student = torch.softmax(logits, dim=1)
        if targets.teachers is None:
            prepared, shares, which = targets.tensors["prepared"], targets.tensors["shares"], rows
        else:
            answers, shares = targets.teachers(rows)
            prepared, which = targets.transport.prepare(answers), torch.arange(len(rows))
        loss = targets.transport.total(student, prepared, shares, which) / len(logits)
        if self.cross_entropy:
            loss = loss + self.cross_entropy * cross_entropy(logits, targets.probs[rows])
        return loss

    def _transport(self, space: LabelSpace) -> Transport:
        return choose_path(
            space,
            solver=self.solver,
            epsilon=self.epsilon,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )

    def _read_later(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return targets that hold the mixture alone and read the teachers batch by batch."""

        def teachers(rows: Tensor) -> tuple[Tensor, Tensor]:
            index = rows.numpy()
            probs = intake.take(index)
            weights = teacher_weights(
                self.weights,
                probs,
                intake.sizes,
                intake.bias,
                normalise=self.normalise_weights,
                present=None if intake.present is None else intake.present[:, index],
            )
            answers = probs.transpose(1, 0, 2).astype(np.float32)
            return torch.from_numpy(answers), torch.from_numpy(weights.T.astype(np.float32))

        (mixture,) = stack([(weighted_sum(w, p),) for p, w in self.blocks(intake)])
        return Targets(
            probs=mixture,
            weights=torch.empty(0, len(intake.parties)),
            space=space,
            transport=self._transport(space),
            teachers=teachers,
        )

    def _barycentres(self, intake: Intake, space: LabelSpace) -> Targets:
        cost = torch.as_tensor(space.cost, dtype=torch.float64)
        epsilon = self.epsilon * (float(cost.max()) or 1.0)
        made = barycentres(intake, self.blocks(intake), cost, epsilon, self.weights)
        notes: tuple[str, ...] = ()
        if made.restless:
            notes = (f"{made.restless} of {intake.rows} barycentres had not settled",)
        return Targets(made.probs, made.weights, space, notes=notes)

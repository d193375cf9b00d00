"""Knowledge distillation at a temperature, and what all methods that soften a consensus share."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedkd.intake import Intake
from fedkd.methods.baselines import Averaging
from fedkd.methods.knot import Knot
from fedkd.methods.method import Floats, Method, Targets, check_logits, cross_entropy, weighted_sum
from fedkd.methods.weights import Scheme
from fedkd.transport.ground_cost import LabelSpace

Positive = Annotated[float, Field(gt=0)]
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)


class Consensual(Averaging):
    """What methods share that soften one distribution p̄, made by all teachers together.

    ``class_targets``: ``logits`` p̄ = softmax(Σ_k w_k log p_k), ``mean`` Σ_k w_k p_k, or ``knot``
    the Wasserstein barycentre under the scenario's ground cost. At temperature τ the target is
    softmax(log p̄ / τ).
    """

    weights: Scheme = Field("uniform", description="how much each teacher counts on a row")
    class_targets: Literal["logits", "mean", "knot"] = Field(
        "logits", description="how the teachers' label probabilities become one"
    )

    @property
    def needs_each_teacher(self) -> str | None:
        """Only the mean of the teachers is a sum."""
        if self.class_targets == "mean" and not self.splits:
            return None
        return f"class_targets {self.class_targets!r} or its splits read each teacher"

    def consensus(self, intake: Intake, space: LabelSpace) -> Floats:
        """Return p̄ (rows, labels) float64, strictly positive."""
        if self.class_targets == "knot":
            knot = Knot(objective="barycentre", weights=self.weights)
            found = knot.targets(intake, space).probs.double().numpy() + np.finfo(np.float32).tiny
            return np.asarray(found / found.sum(axis=1, keepdims=True))
        parts = []
        for probs, weights in self.blocks(intake):
            if self.class_targets == "mean":
                parts.append(weighted_sum(weights, probs))
            else:
                parts.append(tempered(weighted_sum(weights, np.log(probs)), 1.0))
        return np.concatenate(parts)


class Kd(Consensual):
    """τ² · cross-entropy at temperature τ to the softened consensus (Hinton et al. 2015).

    With two labels a target is one number a row. Without ``temperature`` it is chosen among 1, 2,
    4 and 8 by the cross-entropy of the student's untempered answer to p̄ on held-out transfer
    rows: no label is looked at. Everything is compared with this method, and at τ = 1 alone it
    flatters what it is compared with.
    """

    name: Literal["kd"] = "kd"
    temperature: Positive | None = Field(None, description="τ; tuned without labels when absent")

    @property
    def recipe(self) -> str:
        """``kd``, then the temperature and weights where they are given."""
        given = None if self.temperature is None else f"{self.temperature:g}"
        scheme = None if self.weights == "uniform" else self.weights
        return "/".join(("kd", *(part for part in (given, scheme) if part)))

    @property
    def candidates(self) -> tuple[Method, ...]:
        """This method at each temperature where none is given."""
        if self.temperature is not None:
            return (self,)
        return tuple(self.model_copy(update={"temperature": value}) for value in TEMPERATURES)

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the consensus, and the same softened."""
        return consensus_targets(
            self.consensus(intake, space), self.temperature or 1.0, intake, space
        )

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of the tempered cross-entropy, times τ²."""
        check_logits(logits, targets)
        tau = self.temperature or 1.0
        return tau**2 * cross_entropy(logits / tau, targets.tensors["soft"][rows])


def consensus_targets(
    consensus: Floats, temperature: float, intake: Intake, space: LabelSpace
) -> Targets:
    """Return targets with ``soft`` = softmax(log p̄ / τ) beside p̄."""
    soft = tempered(np.log(consensus), temperature)
    return Targets(
        torch.from_numpy(consensus.astype(np.float32)),
        torch.full((intake.rows, len(intake.parties)), 1 / len(intake.parties)),
        space,
        tensors={"soft": torch.from_numpy(soft.astype(np.float32))},
    )


def tempered(logits: Floats, temperature: float) -> Floats:
    """Return softmax(logits / τ) (rows, labels)."""
    raised = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)

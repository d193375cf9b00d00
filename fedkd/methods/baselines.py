"""The methods that transport is compared with; none looks at the ground cost."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.errors import expected
from fedkd.intake import Intake
from fedkd.methods.method import (
    Floats,
    Method,
    Targets,
    check_logits,
    cross_entropy,
    stack,
    weighted_sum,
)
from fedkd.transport.ground_cost import LabelSpace

Positive = Annotated[float, Field(gt=0)]


class CrossEntropy(Method):
    """−Σ_c p̄_c log s_c with p̄ = Σ_k w_k p_k (Guha et al. 2019, with weights)."""

    name: Literal["cross-entropy"] = "cross-entropy"

    @property
    def needs_each_teacher(self) -> str | None:
        """None: the mixture is all it reads."""
        return None

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the mixture of the teachers."""
        probs, weights = stack([(weighted_sum(w, p), w.T) for p, w in self.blocks(intake)])
        return Targets(probs, weights, space)

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of the cross-entropy."""
        check_logits(logits, targets)
        return cross_entropy(logits, targets.probs[rows])


class SymmetricKl(Method):
    """Σ_k w_k ½ Σ_c (s_c − p_kc)(log s_c − log p_kc), the entropy baseline of Bhardwaj et al.

    The sum over teachers is taken once, in the targets: with W = Σ_k w_k and L = Σ_k w_k log p_k
    it is ½ (Σ_c (W s_c − p̄_c) log s_c − s_c L_c + Σ_k w_k p_kc log p_kc).
    """

    name: Literal["symmetric-kl"] = "symmetric-kl"

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the mixture, and the sums over teachers that the loss reads."""
        parts = []
        for probs, weights in self.blocks(intake):
            logs = np.log(probs)
            constant = weighted_sum(weights, probs * logs).sum(axis=1)
            parts.append(
                (
                    weighted_sum(weights, probs),
                    weights.T,
                    weighted_sum(weights, logs),
                    weights.sum(axis=0)[:, None],
                    constant,
                )
            )
        mixture, shares, logs_sum, total, constants = stack(parts)
        kept = {"logs": logs_sum, "total": total, "constant": constants}
        return Targets(mixture, shares, space, tensors=kept)

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of half the Jeffreys divergence, in nats."""
        check_logits(logits, targets)
        if not len(logits):
            return logits.sum()
        log_student = torch.log_softmax(logits, dim=1)
        student = log_student.exp()
        kept = targets.tensors
        each = (kept["total"][rows] * student - targets.probs[rows]) * log_student
        each = each - student * kept["logs"][rows]
        return (each.sum() + kept["constant"][rows].sum()) / (2 * len(logits))


class Averaging(Method):
    """What the averages below share: one target distribution, which needs weights that add up."""

    @model_validator(mode="after")
    def _weights_add_up(self) -> Self:
        if not self.normalise_weights:
            raise ValueError(
                expected(
                    "normalise_weights", False, f"be true for {self.name!r}", "'cross-entropy'"
                )
            )
        return self


class LogitAverage(Averaging):
    """T² · cross-entropy at temperature T to softmax(Σ_k w_k log p_k / T) (Lin et al. 2020).

    At T = 1 the target is the normalised geometric mean Π_k p_k^{w_k}. Equal to FedDF's
    T² KL(target ‖ student) up to the target's entropy, which has no gradient.
    """

    name: Literal["logit-average"] = "logit-average"
    temperature: Positive = Field(1.0, description="T of targets and student")

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the tempered geometric mean of the teachers."""
        parts = [
            (_softmax(weighted_sum(w, np.log(p)) / self.temperature), w.T)
            for p, w in self.blocks(intake)
        ]
        probs, weights = stack(parts)
        return Targets(probs, weights, space)

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of the tempered cross-entropy, times T²."""
        check_logits(logits, targets)
        return self.temperature**2 * cross_entropy(logits / self.temperature, targets.probs[rows])


class SharpenedAverage(Averaging):
    """Cross-entropy to softmax(Σ_k w_k p_k / T), entropy reduction (Itahara et al. 2021)."""

    name: Literal["sharpened-average"] = "sharpened-average"
    temperature: Positive = Field(0.1, description="T of the targets; smaller is sharper")

    @property
    def needs_each_teacher(self) -> str | None:
        """None: the mixture is all it reads."""
        return None

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the sharpened mixture of the teachers."""
        parts = [
            (_softmax(weighted_sum(w, p) / self.temperature), w.T) for p, w in self.blocks(intake)
        ]
        probs, weights = stack(parts)
        return Targets(probs, weights, space)

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of the cross-entropy."""
        check_logits(logits, targets)
        return cross_entropy(logits, targets.probs[rows])


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)

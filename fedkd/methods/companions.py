"""Refinements of distillation that read nothing but logits; what is left of them for two labels."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkd.intake import Intake
from fedkd.methods.kd import Consensual, consensus_targets
from fedkd.methods.method import Targets, check_logits
from fedkd.transport.ground_cost import LabelSpace

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0)]
SMALL = 1e-8


class Softened(Consensual):
    """A method against the consensus softened by one temperature."""

    temperature: Positive = Field(4.0, description="τ of targets and student")

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the consensus, and the same softened."""
        return consensus_targets(self.consensus(intake, space), self.temperature, intake, space)


class Dkd(Softened):
    """Decoupled distillation (Zhao et al., CVPR 2022): τ² (α TCKD + β NCKD).

    TCKD is the divergence of (target, rest), NCKD that among the rest; the target is the
    consensus' most likely label, as no label is known. With two labels there is one label in the
    rest, NCKD is 0 and this is plain distillation, whatever β is.
    """

    name: Literal["dkd"] = "dkd"
    target_share: Share = Field(1.0, description="α, the target against the rest")
    rest_share: Share = Field(8.0, description="β, among the rest")

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of both parts, times τ²."""
        check_logits(logits, targets)
        if not len(logits):
            return logits.sum()
        soft = targets.tensors["soft"][rows].to(logits.dtype)
        log_student = torch.log_softmax(logits / self.temperature, dim=1)
        target = torch.nn.functional.one_hot(soft.argmax(dim=1), soft.shape[1]).bool()
        rest = log_student.masked_fill(target, -torch.inf).logsumexp(dim=1)
        own, sure = log_student[target], soft[target]
        first = -(sure * own + (1 - sure) * rest).sum() / len(logits)
        inside = soft.masked_fill(target, 0.0) / (1 - sure).clamp_min(SMALL)[:, None]
        among = (log_student - rest[:, None]).masked_fill(target, 0.0)
        second = -(inside * among).sum() / len(logits)
        both = self.target_share * first + self.rest_share * second
        return self.temperature**2 * both


class Dist(Softened):
    """DIST (Huang et al., NeurIPS 2022): τ² (β (1 − r of rows) + γ (1 − r of columns)).

    r is Pearson's correlation of student and consensus, over the labels of a row and over the
    rows of a batch. With two labels a row's correlation is +1 or −1 whatever the student says, so
    its gradient is 0 and only the batch term teaches.
    """

    name: Literal["dist"] = "dist"
    row_share: Share = Field(1.0, description="β, correlation over the labels of a row")
    column_share: Share = Field(1.0, description="γ, correlation over the rows of a batch")

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the loss of a batch; its rows are compared with each other."""
        check_logits(logits, targets)
        if not len(logits):
            return logits.sum()
        soft = targets.tensors["soft"][rows].to(logits.dtype)
        student = torch.softmax(logits / self.temperature, dim=1)
        apart = self.row_share * (1 - pearson(student, soft).mean())
        apart = apart + self.column_share * (1 - pearson(student.T, soft.T).mean())
        return self.temperature**2 * apart


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation of each row of ``first`` (n, m) with that of ``second``, (n,)."""
    one = first - first.mean(dim=1, keepdim=True)
    other = second - second.mean(dim=1, keepdim=True)
    sizes = one.norm(dim=1) * other.norm(dim=1)
    found: Tensor = (one * other).sum(dim=1) / (sizes + SMALL)
    return found

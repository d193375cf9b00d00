"""Distillation from embeddings: what LELP is to be compared with where parties release them.

All of them add to plain distillation a term on the student's last hidden layer, learnt by a module
beside it (one per teacher, their mean) that is thrown away. Embeddings are centred and brought to
a mean square of 1 per teacher, so that one ``hint_share`` suits teachers of every scale. What a
party sends includes what its own head reads: with the probabilities, its last weights can be
solved for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.intake import Intake
from fedkd.methods.companions import Share, Softened
from fedkd.methods.contrast import Contrast
from fedkd.methods.method import Targets, check_logits, cross_entropy
from fedkd.models.classifier import Classifier
from fedkd.models.embeddings import last_layer
from fedkd.release import ReleaseKind
from fedkd.subclass.question import FurtherKind, Question
from fedkd.subclass.split import Split
from fedkd.transport.ground_cost import LabelSpace

AS_THEY_ARE = Split(1, 1.0, "pca", null_projection=False, rotation="none")
FIRST_VARIANCE, LEAST_VARIANCE = 5.0, 1e-5


class Embedded(Softened):
    """Plain distillation at one temperature, and ``hint_share`` times a term on embeddings."""

    hint_share: Share = Field(1.0, description="weight of the term on embeddings")

    @property
    def asks(self) -> tuple[ReleaseKind, ...]:
        """Probabilities and embeddings."""
        return ("probabilities", "embeddings")

    @property
    def splits(self) -> tuple[tuple[FurtherKind, Split], ...]:
        """Embeddings as they are."""
        return (("embeddings", AS_THEY_ARE),)

    def questions(self, intake: Intake, space: LabelSpace) -> tuple[Question, ...]:
        """Return the question for embeddings; the consensus in it changes nothing."""
        everyone = np.full((intake.rows, intake.labels), 1 / intake.labels, np.float16)
        return (Question("embeddings", AS_THEY_ARE, everyone),)

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the part that plain distillation has."""
        check_logits(logits, targets)
        tau = self.temperature
        return tau**2 * cross_entropy(logits / tau, targets.tensors["soft"][rows])

    def beside(self, intake: Intake, space: LabelSpace, student: Classifier) -> nn.Module:
        """Return the term on embeddings."""
        (question,) = self.questions(intake, space)
        teachers = [standardised(intake.further(p, question.name)) for p in intake.parties]
        width = last_layer(student).in_features
        terms = [self.term(width, known) for known in teachers if bool(known.isfinite().any())]
        return Mean(terms, self.hint_share)

    @abstractmethod
    def term(self, width: int, teacher: Tensor) -> nn.Module:
        """Return the term for one teacher's embeddings (rows, D), NaN where there are none."""


class EmbeddingDistillation(Embedded):
    """γ ‖g(h) − h_k‖² / D beside plain distillation, on the last layer, with a linear g.

    With few labels the embedding's label direction is most of its variance and is known already;
    the rest comes along at the price of a coefficient that has to be balanced by hand.
    """

    name: Literal["embedding-distillation"] = "embedding-distillation"

    def term(self, width: int, teacher: Tensor) -> nn.Module:
        """Return the regression of one teacher."""
        return Regression(width, teacher)


class FitNet(Embedded):
    """FitNets (Romero et al., ICLR 2015) with the last hidden layers as hints.

    First the hints alone (‖g(h) − h_k‖² / D), then plain distillation alone. What two labels do
    not ask for may be forgotten again in the second stage.
    """

    name: Literal["fitnet"] = "fitnet"

    @property
    def hints_first(self) -> bool:
        """Hints, then labels."""
        return True

    def term(self, width: int, teacher: Tensor) -> nn.Module:
        """Return the regression of one teacher."""
        return Regression(width, teacher)


class Vid(Embedded):
    """Variational information distillation (Ahn et al., CVPR 2019), equation 5.

    ½ ((g(h) − h_k)² / σ² + log σ²), the mean over channels, with a σ² learnt for each. Few labels
    make many channels follow the label alone: their σ² falls, and they say what is known already.
    """

    name: Literal["vid"] = "vid"

    def term(self, width: int, teacher: Tensor) -> nn.Module:
        """Return the regression of one teacher, with a variance for each channel."""
        return Variational(width, teacher)


class Rkd(Embedded):
    """Relational distillation (Park et al., CVPR 2019): distances and angles inside a batch.

    With few labels most distances tell only whether two rows share a label. Angles cost a cube of
    the batch in time and memory.
    """

    name: Literal["rkd"] = "rkd"
    distance_share: Share = Field(25.0, description="weight of distances between two rows")
    angle_share: Share = Field(50.0, description="weight of angles between three rows")

    def term(self, width: int, teacher: Tensor) -> nn.Module:
        """Return the relations of one teacher's rows; nothing is learnt."""
        return Relations(teacher, self.distance_share, self.angle_share)


class Crd(Embedded):
    """Contrastive distillation (Tian et al., ICLR 2020), equations 11 to 19, in 128 dimensions.

    A row's student and teacher are told apart from other rows by noise-contrastive estimation at
    temperature 0.07, both ways. Instead of a memory of 16,384 drawn rows the negatives of a
    student are 512 fixed rows of the teacher, those of a teacher the rest of the batch. With few
    labels many negatives share the label of their row and are pushed away all the same; the method
    leans on augmented views, which text does not have.
    """

    name: Literal["crd"] = "crd"
    hint_share: Annotated[float, Field(ge=0)] = Field(0.8, description="weight of the contrast")

    def term(self, width: int, teacher: Tensor) -> nn.Module:
        """Return the contrast with one teacher."""
        return Contrast(width, teacher)


class Mean(nn.Module):
    """The mean of terms of (hidden, rows), times a share; 0 where there are none."""

    def __init__(self, terms: Sequence[nn.Module], share: float) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.share = share

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Return a scalar of the student's last hidden layer (batch, width)."""
        total = hidden.new_zeros(())
        for term in self.terms:
            total = total + term(hidden, rows)
        return total * (self.share / max(1, len(self.terms)))


class Regression(nn.Module):
    """(1/D) Σ_d (g(h) − h_k)², the mean over the rows that the teacher delivered."""

    teacher: Tensor

    def __init__(self, width: int, teacher: Tensor) -> None:
        super().__init__()
        self.map = nn.Linear(width, teacher.shape[1])
        self.register_buffer("teacher", teacher, persistent=False)

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Return the mean squared error."""
        guess, wanted = delivered(hidden, self.teacher, rows)
        return self.error(self.map(guess), wanted)

    def error(self, guess: Tensor, wanted: Tensor) -> Tensor:
        """Return the error of a guess (rows, D)."""
        return (guess - wanted).square().sum() / max(1, wanted.numel())


class Variational(Regression):
    """½ ((g(h) − h_k)² / σ² + log σ²), σ² = softplus(a) + 1e-5 a channel, at first 5."""

    def __init__(self, width: int, teacher: Tensor) -> None:
        super().__init__(width, teacher)
        first = float(np.log(np.expm1(FIRST_VARIANCE - LEAST_VARIANCE)))
        self.raw = nn.Parameter(torch.full((teacher.shape[1],), first))

    def error(self, guess: Tensor, wanted: Tensor) -> Tensor:
        """Return the negative log-likelihood of a Gaussian, but for its constant."""
        variance = F.softplus(self.raw) + LEAST_VARIANCE
        found = (guess - wanted).square() / variance + variance.log()
        return found.sum() / (2 * max(1, wanted.numel()))


class Relations(nn.Module):
    """Huber losses between the student's and the teacher's distances and angles in a batch."""

    teacher: Tensor

    def __init__(self, teacher: Tensor, distance_share: float, angle_share: float) -> None:
        super().__init__()
        self.register_buffer("teacher", teacher, persistent=False)
        self.distance_share, self.angle_share = distance_share, angle_share

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Return both terms for the rows that the teacher delivered."""
        student, teacher = delivered(hidden, self.teacher, rows)
        if not len(student):
            return hidden.sum() * 0
        total = self.distance_share * F.smooth_l1_loss(distances(student), distances(teacher))
        if self.angle_share:
            total = total + self.angle_share * F.smooth_l1_loss(angles(student), angles(teacher))
        return total


def distances(points: Tensor) -> Tensor:
    """Return ‖x_i − x_j‖ (n, n) over the mean of those that are not 0."""
    squares = (points[:, None] - points[None]).square().sum(dim=2)
    apart = squares > 0
    found = torch.where(apart, squares, 1.0).sqrt() * apart
    return found / (found.sum() / apart.sum().clamp_min(1)).clamp_min(1e-12)


def angles(points: Tensor) -> Tensor:
    """Return the cosine at x_j between x_i and x_k, (j, i, k)."""
    steps = F.normalize(points[None] - points[:, None], dim=2)
    return torch.bmm(steps, steps.transpose(1, 2))


def delivered(hidden: Tensor, teacher: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's rows (n, ·) of a batch where the latter has them."""
    wanted = teacher[rows.to(teacher.device)].to(hidden.dtype)
    there = wanted[:, 0].isfinite()
    return hidden[there], wanted[there]


def standardised(embeddings: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    """Return embeddings (rows, D) float32 with mean 0 a column and mean square 1 over all."""
    values = np.asarray(embeddings, np.float64)
    there = ~np.isnan(values).any(axis=1)
    if there.any():
        values = values - values[there].mean(axis=0)
        values /= np.sqrt(np.square(values[there]).mean()) or 1.0
    return torch.from_numpy(values.astype(np.float32))

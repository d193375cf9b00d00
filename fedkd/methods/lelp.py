"""LELP: subclasses from a teacher's embeddings, for tasks of few labels (Loo et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.errors import expected
from fedkd.intake import Intake
from fedkd.methods import designs
from fedkd.methods.decoupled import Aim, balance, decoupled
from fedkd.methods.kd import Consensual, consensus_targets
from fedkd.methods.method import Floats, Method, Targets, check_logits
from fedkd.models.heads import Layout
from fedkd.release import ReleaseKind
from fedkd.subclass.basis import Rotation
from fedkd.subclass.question import FurtherKind, Question
from fedkd.subclass.split import Split, Splitter, softened
from fedkd.transport.ground_cost import LabelSpace

Positive = Annotated[float, Field(gt=0)]
Design = Literal["a0", "a1", "a2", "b1", "b2"]
SHARES = (1.0, 0.3, 0.1, 0.0)
ASKS: dict[Design, FurtherKind] = {
    "a0": "subclasses",
    "a1": "subclasses",
    "a2": "scores",
    "b1": "embeddings",
    "b2": "grams",
}


class Lelp(Consensual):
    """Each label is split into S subclasses along what a teacher's embeddings show inside it.

    Targets are q = p̄ ⊗ r with r = softmax(z / β), z the scores along the principal axes of a
    label's rows after the directions that the head reads are taken out (arXiv 2409.20449,
    sections 3.1 and 3.2). With K teachers (``design``):

    - ``a1``: each party splits for itself and sends r_k; the student has a head for each
    - ``a0``: the r_k are averaged: subclass s of one teacher is not that of another, so this
      control falls back to plain distillation
    - ``a2``: the parties send scores, which are turned onto each other; one head; the turning
      could run under secure summation, until that exists the server sees each party's scores
    - ``b1``: embeddings are sent and split by the server; a head for each
    - ``b2``: embeddings side by side are split once; one head. The parties send how each row
      compares with ``landmarks`` of them, of which only the sum is used: it could run under secure
      summation; until that exists the server sees each party's comparisons, which tell its
      embeddings up to a rotation

    ``loss`` ``decoupled`` is τ² KL(p̄^τ ‖ softmax(a/τ)) + λ Σ_c p̄_c^τ KL(r_c ‖ softmax_s f_c)
    with a = logsumexp_s f; ``joint`` is the paper's τ² KL(q ‖ softmax(f/τ)). With several heads
    a and the second term are means over them. The student answers with softmax(a). λ is ``share``
    times :func:`~fedkd.methods.decoupled.balance`, which is 1 for teachers that are sure, unless
    ``balanced`` is off.

    ``splitter`` ``learned`` is subclass distillation (Müller et al., arXiv 2002.03936): the
    teachers were trained with S outputs a label (``[teacher] subclasses``) and send those; the
    paper's loss is ``objective = "joint"`` with β = τ. It retrains every teacher for each S, and
    says no more than LELP on few labels unless classes hide in them.
    """

    name: Literal["lelp"] = "lelp"
    design: Design = Field("a1", description="what parties send, and who splits")
    objective: Literal["decoupled", "joint"] = Field(
        "decoupled", description="labels and subclasses as two terms, or as one distribution"
    )
    subclasses: Annotated[int, Field(ge=1)] = Field(5, description="S, subclasses of a label")
    beta: Positive = Field(0.25, description="temperature of the subclasses; joint: about τ/4")
    temperature: Positive = Field(4.0, description="τ of labels")
    share: Annotated[float, Field(ge=0)] | Literal["tuned"] = Field(
        1.0, description="λ of the subclass term; 'tuned' chooses it without labels"
    )
    balanced: bool = Field(True, description="less of it where teachers say little of labels")
    splitter: Splitter | Literal["oracle"] = Field("pca", description="how rows are split")
    null_projection: bool = Field(True, description="take out what the teacher's head reads")
    rotation: Rotation = Field("random", description="turn the axes so that none matters more")
    fit_on: Literal["public", "private"] = Field(
        "public", description="rows the axes are fitted on"
    )
    landmarks: Annotated[int, Field(ge=2)] = Field(
        512, description="rows that all are compared with (b2)"
    )
    draw: Annotated[int, Field(ge=0)] = Field(0, description="another draw of the rotations")

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.fit_on == "private":
            raise ValueError(
                expected(
                    "fit_on",
                    "private",
                    "have a mechanism: axes of private rows would be a new release of them",
                    "fit_on = 'public', which only post-processes the teacher",
                )
            )
        if self.rotation == "hadamard" and self.subclasses & (self.subclasses - 1):
            raise ValueError(
                expected("subclasses", self.subclasses, "be a power of 2 for 'hadamard'", "4 or 8")
            )
        if self.splitter in ("oracle", "learned") and self.design != "a1":
            raise ValueError(
                expected(
                    "design", self.design, f"be 'a1' for splitter = {self.splitter!r}",
                    "design = 'a1'",
                )
            )  # fmt: skip
        if self.splitter not in ("pca", "oracle") and self.design in ("a2", "b2"):
            raise ValueError(
                expected("splitter", self.splitter, f"be 'pca' for {self.design!r}", "'pca'")
            )
        return self

    @property
    def recipe(self) -> str:
        """``lelp/<design>/<objective>``, then what differs from the defaults."""
        extras = (
            self.splitter if self.splitter != "pca" else None,
            self.weights if self.weights != "uniform" else None,
            self.class_targets if self.class_targets != "logits" else None,
            "tuned" if self.share == "tuned" else None,
        )
        return "/".join(("lelp", self.design, self.objective, *(e for e in extras if e)))

    @property
    def candidates(self) -> tuple[Method, ...]:
        """This method with each share where it is tuned, as ``kd`` is over temperatures."""
        if self.share != "tuned":
            return (self,)
        return tuple(self.model_copy(update={"share": value}) for value in SHARES)

    @property
    def asks(self) -> tuple[ReleaseKind, ...]:
        """Probabilities, then what the design sends; the reference splitter asks for no more."""
        return ("probabilities", *(kind for kind, _ in self.splits))

    @property
    def splits(self) -> tuple[tuple[FurtherKind, Split], ...]:
        """The one further question; how embeddings are split is then the server's choice."""
        if self.splitter == "oracle":
            return ()
        split = self._split
        if self.design == "b1":
            split = Split(1, 1.0, "pca", self.null_projection, "none", 0)
        if self.design == "b2":
            split = Split(1, 1.0, "pca", self.null_projection, "none", self.draw, self.landmarks)
        return ((ASKS[self.design], split),)

    def questions(self, intake: Intake, space: LabelSpace) -> tuple[Question, ...]:
        """Return what is asked once the consensus on the labels is known."""
        if not self.splits:
            return ()
        membership = self.consensus(intake, space).astype(np.float16)
        return tuple(Question(kind, split, membership) for kind, split in self.splits)

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return p̄, p̄^τ as ``soft``, λ, and ``fine`` (rows, heads, labels, S), which is p̄^τ ⊗ r.

        A head's part of a row is divided by the heads present there; their sum over heads and
        subclasses is p̄^τ.
        """
        consensus = self.consensus(intake, space)
        conditional, notes = self._conditionals(intake, space, consensus)
        flat = conditional.reshape(*conditional.shape[:2], -1)
        there: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(flat), axis=2)
        shares = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
        base = consensus_targets(consensus, self.temperature, intake, space)
        soft = base.tensors["soft"].double().numpy()
        fine = np.where(there[:, :, None, None], conditional, 0.0)
        fine *= soft[:, None, :, None] * shares[:, :, None, None]
        absent = int((~there).any(axis=1).sum())
        if absent:
            notes = (*notes, f"{absent} rows lack the subclasses of a teacher")
        taught = torch.from_numpy(fine.astype(np.float32))
        given = 1.0 if self.share == "tuned" else self.share
        if self.balanced:
            given *= balance(base.tensors["soft"], taught, self.temperature)
        return replace(
            base,
            tensors={**base.tensors, "fine": taught, "share": torch.tensor(given)},
            layout=Layout(fine.shape[1], fine.shape[3]),
            notes=notes,
        )

    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the batch mean of the objective, of outputs (batch, heads · labels · S).

        Cross-entropies stand for the divergences: they differ by what no student can change.
        """
        check_logits(logits, targets)
        if not len(logits):
            return logits.sum()
        layout, tau = targets.layout, self.temperature
        outputs = layout.unfold(logits)
        fine, soft = targets.tensors["fine"], targets.tensors["soft"]
        if self.objective == "decoupled":
            share = targets.tensors["share"].item()
            return decoupled(outputs, Aim(soft, fine, tau, share), rows)
        log_student = torch.log_softmax((outputs / tau).flatten(2), dim=2)
        wanted = fine[rows].to(outputs).flatten(2)
        return -(tau**2) * (wanted * log_student).sum() / len(logits)

    def _conditionals(
        self, intake: Intake, space: LabelSpace, consensus: Floats
    ) -> tuple[Floats, tuple[str, ...]]:
        """Return r (rows, heads, labels, S), NaN where a teacher gave none, and notes."""
        if self.splitter == "oracle":
            return designs.oracle(intake, consensus)
        (question,) = self.questions(intake, space)
        match self.design:
            case "a1":
                given = designs.answers(intake, question)
                return np.stack(given, axis=1), designs.reduced(intake, given)
            case "a0":
                return designs.mean_of_present(designs.answers(intake, question))[:, None], ()
            case "b1":
                return designs.split_here(intake, question, consensus, self._split), ()
        combine = designs.aligned if self.design == "a2" else designs.joined
        found = softened(combine(intake, question, consensus, self._split), self.beta)
        seen = f"the server saw each party's {question.kind}: there is no secure summation of them"
        return found[:, None], (seen,)

    @property
    def _split(self) -> Split:
        """How rows are split, whoever does it."""
        return Split(
            self.subclasses,
            self.beta,
            "pca" if self.splitter == "oracle" else self.splitter,
            self.null_projection,
            self.rotation,
            self.draw,
        )

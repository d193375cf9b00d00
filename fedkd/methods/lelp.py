"""LELP: subclasses from a teacher's embeddings, for tasks of few labels (Loo et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.errors import ScenarioError, expected
from fedkd.intake import Intake
from fedkd.methods.decoupled import Aim, decoupled
from fedkd.methods.kd import Consensual, consensus_targets
from fedkd.methods.method import Floats, Targets, check_logits
from fedkd.models.heads import Layout
from fedkd.release import ReleaseKind
from fedkd.seeds import numpy_generator
from fedkd.subclass.align import aligned_mean, gram_scores, standing
from fedkd.subclass.basis import Rotation, rotation
from fedkd.subclass.question import FurtherKind, Question
from fedkd.subclass.split import Split, Splitter, conditionals, softened
from fedkd.transport.ground_cost import LabelSpace

Positive = Annotated[float, Field(gt=0)]
WIDEST_GRAM = 8192
Design = Literal["a0", "a1", "a2", "b1", "b2"]
ASKS: dict[Design, FurtherKind] = {
    "a0": "subclasses",
    "a1": "subclasses",
    "a2": "scores",
    "b1": "embeddings",
    "b2": "embeddings",
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
    - ``b2``: embeddings side by side are split once; one head. Only their Gram sum is used, so
      it can run under secure summation; until that exists the server sees each embedding

    ``loss`` ``decoupled`` is τ² KL(p̄^τ ‖ softmax(a/τ)) + λ Σ_c p̄_c^τ KL(r_c ‖ softmax_s f_c)
    with a = logsumexp_s f; ``joint`` is the paper's τ² KL(q ‖ softmax(f/τ)). With several heads
    a and the second term are means over them. The student answers with softmax(a).
    """

    name: Literal["lelp"] = "lelp"
    design: Design = Field("a1", description="what parties send, and who splits")
    objective: Literal["decoupled", "joint"] = Field(
        "decoupled", description="labels and subclasses as two terms, or as one distribution"
    )
    subclasses: Annotated[int, Field(ge=1)] = Field(5, description="S, subclasses of a label")
    beta: Positive = Field(0.25, description="temperature of the subclasses; joint: about τ/4")
    temperature: Positive = Field(4.0, description="τ of labels")
    share: Annotated[float, Field(ge=0)] = Field(1.0, description="λ of the subclass term")
    splitter: Splitter | Literal["oracle"] = Field("pca", description="how rows are split")
    null_projection: bool = Field(True, description="take out what the teacher's head reads")
    rotation: Rotation = Field("random", description="turn the axes so that none matters more")
    fit_on: Literal["public", "private"] = Field(
        "public", description="rows the axes are fitted on"
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
        if self.splitter == "oracle" and self.design != "a1":
            raise ValueError(
                expected("design", self.design, "be 'a1' for splitter = 'oracle'", "design = 'a1'")
            )
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
        )
        return "/".join(("lelp", self.design, self.objective, *(e for e in extras if e)))

    @property
    def asks(self) -> tuple[ReleaseKind, ...]:
        """Probabilities, then what the design sends; the reference splitter asks for no more."""
        return ("probabilities", *(kind for kind, _ in self.splits))

    @property
    def splits(self) -> tuple[tuple[FurtherKind, Split], ...]:
        """The one further question; how embeddings are split is then the server's choice."""
        if self.splitter == "oracle":
            return ()
        if self.design in ("b1", "b2"):
            split = Split(1, 1.0, "pca", self.null_projection, "none", 0)
        else:
            split = Split(
                self.subclasses,
                self.beta,
                self.splitter,
                self.null_projection,
                self.rotation,
                self.draw,
            )
        return ((ASKS[self.design], split),)

    def questions(self, intake: Intake, space: LabelSpace) -> tuple[Question, ...]:
        """Return what is asked once the consensus on the labels is known."""
        if not self.splits:
            return ()
        membership = self.consensus(intake, space).astype(np.float16)
        return tuple(Question(kind, split, membership) for kind, split in self.splits)

    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return p̄, p̄^τ as ``soft``, and ``fine`` (rows, heads, labels, S), which is p̄^τ ⊗ r.

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
        return replace(
            base,
            tensors={**base.tensors, "fine": torch.from_numpy(fine.astype(np.float32))},
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
            return decoupled(outputs, Aim(soft, fine, tau, self.share), rows)
        log_student = torch.log_softmax((outputs / tau).flatten(2), dim=2)
        wanted = fine[rows].to(outputs).flatten(2)
        return -(tau**2) * (wanted * log_student).sum() / len(logits)

    def _conditionals(
        self, intake: Intake, space: LabelSpace, consensus: Floats
    ) -> tuple[Floats, tuple[str, ...]]:
        """Return r (rows, heads, labels, S), NaN where a teacher gave none, and notes."""
        if self.splitter == "oracle":
            return self._oracle(intake, consensus)
        (question,) = self.questions(intake, space)
        answers = [np.asarray(intake.further(p, question.name), np.float64) for p in intake.parties]
        if self.design == "a1":
            return np.stack(answers, axis=1), _reduced(intake, answers)
        if self.design == "a0":
            return _mean_of_present(answers)[:, None], ()
        gone = [np.isnan(a).reshape(len(a), -1).any(axis=1) for a in answers]
        shape = (intake.rows, 1, intake.labels, self.subclasses)
        if self.design == "b1":
            heads = []
            for party, answer, missing in zip(intake.parties, answers, gone, strict=True):
                own = np.flatnonzero(~missing)
                head = np.full((shape[0], *shape[2:]), np.nan)
                if len(own):
                    head[own] = self._split_here(answer[own], consensus[own], party)
                heads.append(head)
            return np.stack(heads, axis=1), ()
        whole = np.flatnonzero(~np.any(gone, axis=0))
        found = np.full(shape, np.nan)
        if not len(whole):
            return found, ()
        known, member = [answer[whole] for answer in answers], consensus[whole]
        scores = (
            self._aligned(known, member) if self.design == "a2" else self._joined(known, member)
        )
        found[whole, 0] = softened(scores, self.beta)
        return found, ()

    def _oracle(self, intake: Intake, consensus: Floats) -> tuple[Floats, tuple[str, ...]]:
        """Return r of true fine labels: one-hot within the label that a fine label belongs to."""
        if intake.fine is None:
            raise ScenarioError(
                expected(
                    "splitter", "oracle", "come with fine labels of the transfer rows",
                    "data.domain = the column of fine labels, or another splitter",
                )
            )  # fmt: skip
        names, fine = np.unique(intake.fine, return_inverse=True)
        votes = np.stack([consensus[fine == index].mean(axis=0) for index in range(len(names))])
        owner = votes.argmax(axis=1)
        place = np.array([int((owner[:i] == label).sum()) for i, label in enumerate(owner)])
        count = int(np.bincount(owner).max())
        found = np.full((intake.rows, intake.labels, count), 1 / count)
        found[np.arange(intake.rows), owner[fine]] = np.eye(count)[place[fine]]
        return found[:, None], (f"true fine labels were used: {len(names)}, an upper bound",)

    def _split_here(self, embeddings: Floats, member: Floats, party: str) -> Floats:
        """Return r of one teacher's embeddings, which its party has projected already."""
        split = Split(
            self.subclasses,
            self.beta,
            "pca" if self.splitter == "oracle" else self.splitter,
            False,
            self.rotation,
            self.draw,
        )
        no_head = np.zeros((member.shape[1], embeddings.shape[1]))
        return conditionals(embeddings, no_head, member, split, party)

    def _aligned(self, scores: list[Floats], member: Floats) -> Floats:
        """Return one set of scores (rows, labels, S) from those of all teachers (A2)."""
        shares = [1 / len(scores)] * len(scores)
        labels = range(member.shape[1])
        each = [aligned_mean([z[:, c] for z in scores], shares, member[:, c]) for c in labels]
        return self._turned(each)

    def _joined(self, embeddings: list[Floats], member: Floats) -> Floats:
        """Return one set of scores (rows, labels, S) from embeddings side by side (B2)."""
        if len(member) > WIDEST_GRAM:
            raise ScenarioError(
                expected(
                    "transfer rows", len(member), f"be at most {WIDEST_GRAM} for design = 'b2'",
                    "fewer rows, or design = 'a1'",
                )
            )  # fmt: skip
        each = []
        for label in range(member.shape[1]):
            weights = member[:, label]
            gram = np.zeros((len(member), len(member)))
            for values in embeddings:
                block = standing(values, weights, 1 / len(embeddings))
                gram += block @ block.T
            found = gram_scores(gram, weights, self.subclasses)
            missing = self.subclasses - found.shape[1]
            each.append(np.pad(found, ((0, 0), (0, missing)), constant_values=-np.inf))
        return self._turned(each)

    def _turned(self, each: list[Floats]) -> Floats:
        """Return the scores of every label after one rotation that all teachers share."""
        generator = numpy_generator(self.draw, "", 0, "shared rotation")
        turned = []
        for values in each:
            known = int(np.isfinite(values[0]).sum())
            kind: Rotation = "random" if known & (known - 1) else self.rotation
            kind = "none" if self.rotation == "none" else kind
            full = values.copy()
            full[:, :known] = values[:, :known] @ rotation(known, kind, generator)
            turned.append(full)
        return np.stack(turned, axis=1)


def _reduced(intake: Intake, answers: list[Floats]) -> tuple[str, ...]:
    """Name the teachers and labels that had too few rows for every subclass."""
    notes = []
    for party, answer in zip(intake.parties, answers, strict=True):
        used = (np.nan_to_num(answer).max(axis=0) > 0).sum(axis=1)
        notes += [
            f"{party}: label {label} has {count} of {answer.shape[2]} subclasses, for want of rows"
            for label, count in enumerate(used.tolist())
            if 0 < count < answer.shape[2]
        ]
    return tuple(notes)


def _mean_of_present(answers: list[Floats]) -> Floats:
    """Return the mean over the teachers that answered for a row; NaN where none did."""
    there = np.array([~np.isnan(answer).any(axis=(1, 2)) for answer in answers], np.float64)
    total = np.sum([np.nan_to_num(answer) for answer in answers], axis=0)
    count = there.sum(axis=0)[:, None, None]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

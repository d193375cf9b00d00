"""What a distillation method is: a way to make targets, and a loss against them.

A method is one file in this folder; nothing else names it. ``fedkd/methods/majority.py``::

    class Majority(Method):
        name: Literal["majority"] = "majority"
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1      # [[method]] smoothing = 0.2

        def targets(self, intake: Intake, space: LabelSpace) -> Targets:
            parts = []
            for probs, weights in self.blocks(intake):             # (teachers, rows, labels), ...
                votes = np.eye(intake.labels)[probs.argmax(axis=2)]
                parts.append((weighted_sum(weights, votes), weights.T))
            votes, weights = stack(parts)
            smooth = (1 - self.smoothing) * votes + self.smoothing / intake.labels
            return Targets(smooth, weights, space)

        def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
            check_logits(logits, targets)
            return cross_entropy(logits, targets.probs[rows])

and a scenario asks for it with ``[[method]] name = "majority"``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.errors import expected
from fedkd.frozen import Frozen
from fedkd.intake import Intake
from fedkd.methods.weights import Scheme, teacher_weights
from fedkd.models.classifier import Classifier
from fedkd.models.heads import PLAIN, Layout
from fedkd.release import ReleaseKind
from fedkd.scenario import Geometry
from fedkd.subclass.question import FurtherKind, Question
from fedkd.subclass.split import Split
from fedkd.transport.ground_cost import LabelSpace
from fedkd.transport.path import Entropic, Transport

BLOCK_ROWS = 4096
NUMBERS_AT_ONCE = 2**22
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Targets:
    """What a method made of the intake, all float32, row i for transfer row i.

    ``probs`` (rows, labels) is the one distribution per row that the teachers make together,
    ``weights`` (rows, teachers) how much each counted. ``tensors`` is whatever else the method's
    own loss reads, ``transport`` how it measures, ``teachers`` reads the answers (batch, teachers,
    labels) and weights (batch, teachers) of some rows where they are too many to hold, ``notes``
    what the user should know, ``layout`` how many outputs of the student stand for a label.
    """

    probs: Tensor
    weights: Tensor
    space: LabelSpace
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    transport: Transport | None = None
    notes: tuple[str, ...] = ()
    teachers: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    layout: Layout = PLAIN

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to tell the user, counting the solves of the loss so far."""
        tally = self.transport.tally if isinstance(self.transport, Entropic) else None
        if tally is None or not tally.unconverged:
            return self.notes
        return (
            *self.notes,
            f"{tally.unconverged} of {tally.solved} transport solves stopped before the tolerance",
        )


class Method(Frozen):
    """One ``[[method]]`` of a scenario, validated.

    ``normalise_weights`` off keeps the paper's published code, whose weights do not sum to one.
    """

    name: str
    weights: Scheme = Field("size", description="how much each teacher counts on a row")
    normalise_weights: bool = Field(True, description="make a row's weights sum to one")
    label: str | None = Field(None, description="name in results, instead of one made from keys")

    @property
    def key(self) -> str:
        """The name under which results are kept, unique within a scenario."""
        return self.label or self.recipe

    @property
    def recipe(self) -> str:
        """The name and the weights, if those are not the default."""
        return self.name if self.weights == "size" else f"{self.name}/{self.weights}"

    @property
    def asks(self) -> tuple[ReleaseKind, ...]:
        """The kinds of release it needs from every teacher, label probabilities first."""
        return ("probabilities",)

    @property
    def needs_each_teacher(self) -> str | None:
        """Why Σ_k w_k p_k is not enough for this method; None where it is."""
        return "it reads the answer of each teacher"

    @property
    def splits(self) -> tuple[tuple[FurtherKind, Split], ...]:
        """What else it will ask: kinds of release and how rows are split for them."""
        return ()

    def questions(self, intake: Intake, space: LabelSpace) -> tuple[Question, ...]:
        """Return what else to ask, once the probabilities are in the intake."""
        return ()

    def beside(self, intake: Intake, space: LabelSpace, student: Classifier) -> nn.Module | None:
        """Return what learns beside a student and is thrown away afterwards; usually nothing.

        A module that maps what the student's last layer reads (batch, width) and row numbers
        (batch,) to a scalar, which is added to the loss.
        """
        return None

    @property
    def hints_first(self) -> bool:
        """Whether the module beside is learnt by itself first, then the loss by itself."""
        return False

    @property
    def candidates(self) -> tuple[Method, ...]:
        """Versions of this method among which held-out transfer rows choose; usually itself."""
        return (self,)

    @property
    def ground(self) -> Geometry | None:
        """The geometry that ``targets`` wants its label space in; None takes the scenario's."""
        return None

    @abstractmethod
    def targets(self, intake: Intake, space: LabelSpace) -> Targets:
        """Return the targets of every row, reading the intake in blocks of rows."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Targets, rows: Tensor) -> Tensor:
        """Return the scalar loss of ``logits`` (batch, labels), the student's on ``rows``.

        ``rows`` (batch,) int64 indexes the targets.
        """

    def blocks(self, intake: Intake) -> Iterator[tuple[Floats, Floats]]:
        """Yield probabilities (teachers, rows, labels) and weights (teachers, rows), in order."""
        wide = max(1, len(intake.parties) * intake.labels)
        step = min(BLOCK_ROWS, max(1, NUMBERS_AT_ONCE // wide))
        for start in range(0, intake.rows, step):
            stop = min(start + step, intake.rows)
            probs = intake.probs(start, stop)
            yield (
                probs,
                teacher_weights(
                    self.weights,
                    probs,
                    intake.sizes,
                    intake.bias,
                    normalise=self.normalise_weights,
                    present=None if intake.present is None else intake.present[:, start:stop],
                ),
            )


def weighted_sum(weights: Floats, values: Floats) -> Floats:
    """Return Σ_k w_k v_k, (rows, labels), added in the order of the teachers."""
    total = np.zeros(values.shape[1:])
    for weight, value in zip(weights, values, strict=True):
        total += weight[:, None] * value
    return total


def stack(parts: Sequence[tuple[NDArray[np.floating], ...]]) -> tuple[Tensor, ...]:
    """Return float32 tensors of all rows from tuples of arrays (rows, ...), one tuple a block."""
    return tuple(
        torch.from_numpy(np.concatenate([block.astype(np.float32) for block in blocks]))
        for blocks in zip(*parts, strict=True)
    )


def check_logits(logits: Tensor, targets: Targets) -> None:
    """Raise ValueError unless ``logits`` are float32 or float64 (batch, labels)."""
    labels = targets.layout.outputs(targets.probs.shape[1])
    if logits.dim() != 2 or logits.shape[1] != labels:
        raise ValueError(
            expected(
                "logits.shape", tuple(logits.shape), f"be (batch, {labels})", "one logit per label"
            )
        )
    if logits.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            expected("logits.dtype", str(logits.dtype), "be float32 or float64", "logits.float()")
        )


def cross_entropy(logits: Tensor, probs: Tensor) -> Tensor:
    """Return the batch mean of −Σ_c p_c log s_c; 0 for an empty batch."""
    if not len(logits):
        return logits.sum()
    return functional.cross_entropy(logits, probs.to(logits.dtype))

"""Teaching one student by one method."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedkd.intake import Intake
from fedkd.methods.method import Method, Targets
from fedkd.models import training
from fedkd.models.classifier import Classifier
from fedkd.models.determinism import forked_generator
from fedkd.models.inputs import Inputs
from fedkd.models.tapped import Tapped
from fedkd.scenario import Model
from fedkd.seeds import seed_for
from fedkd.transport.ground_cost import LabelSpace


@dataclass(frozen=True)
class Lesson:
    """A method, its targets, and where they come from."""

    method: Method
    targets: Targets
    intake: Intake
    space: LabelSpace

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the method's loss of the student's logits on these rows."""
        return self.method.loss(logits, self.targets, rows)


def teach(
    student: Classifier, inputs: Inputs, lesson: Lesson, model: Model, seed: int
) -> training.History:
    """Train the student in place, with what the method wants to learn beside it, if anything."""
    method, title = lesson.method, f"student {lesson.method.key}"
    with forked_generator(seed_for(seed, "", 0, "beside")):
        beside = method.beside(lesson.intake, lesson.space, student)
    if beside is None:
        return training.fit(student, inputs, lesson.loss, model, seed=seed, progress=title)
    tapped = Tapped(student, beside.to(next(student.module.parameters()).device))
    if not method.hints_first:
        both = tapped.both(lesson.loss)
        return training.fit(tapped, inputs, both, model, seed=seed, progress=title)
    training.fit(tapped, inputs, tapped.hint, model, seed=seed, progress=f"{title}, hints")
    return training.fit(student, inputs, lesson.loss, model, seed=seed, progress=title)

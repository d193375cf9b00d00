"""From the intake to a student for each method."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedkd.files import slug, write_arrays, write_json
from fedkd.intake import Intake
from fedkd.methods.method import Method, Targets
from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.models.heads import PLAIN, Collapsed, Layout
from fedkd.models.inputs import Inputs, Rows, Subset
from fedkd.run.folder import RunFolder
from fedkd.scenario import Model
from fedkd.seeds import seed_for
from fedkd.transport.ground_cost import LabelSpace
from server.subclasses import write_subclasses
from server.teaching import Lesson, teach

Probabilities = NDArray[np.float64]
CHOOSING_SHARE = 0.25


@dataclass
class Distillery:
    """Everything that the students of one run have in common: data, model, first weights.

    All methods start from the same initial student (one seed), so a comparison between two of
    them differs in targets and loss alone.
    """

    folder: RunFolder
    model: Model
    labels: tuple[str, ...]
    seed: int
    transfer: Sequence[str]
    test: Sequence[str]
    _inputs: dict[str, Inputs] = field(default_factory=dict)

    def distil(self, method: Method, intake: Intake, space: LabelSpace) -> Probabilities:
        """Return the predictions on the test set of the student of one method.

        A student that is on disk already, from a run that was stopped, is used as it is.
        """
        home = self.folder.student(method.key)
        stored = home / "predictions.npz"
        if not stored.is_file():
            chosen = self.choose(method, intake, space)
            targets = chosen.targets(intake, space)
            texts = [] if self.model.model == "mlp" else self.transfer
            write_subclasses(self.folder, method.key, targets, intake.parties, texts)
            probs = self.fit(Lesson(chosen, targets, intake, space), home, method.key)
            for warning in targets.warnings:
                self.folder.warn(f"{method.key}: {warning}")
            write_arrays(stored, {"test": probs})
        return load_predictions(stored)

    def choose(self, method: Method, intake: Intake, space: LabelSpace) -> Method:
        """Return the candidate whose student, kept from some transfer rows, answers them best.

        A quarter of the rows is held out for each candidate; the score is the cross-entropy of the
        student's untempered answer to the teachers' consensus there. No label is looked at.
        """
        candidates = method.candidates
        if len(candidates) == 1:
            return candidates[0]
        inputs = self._featurised(self._student(PLAIN), "transfer", self.transfer)
        kept, held = training.split_rows(len(inputs), CHOOSING_SHARE, self._seed)
        scores = []
        for candidate in candidates:
            targets = candidate.targets(intake, space)
            scores.append(self._held_out_score(candidate, targets, inputs, kept, held))
        best = int(np.argmin(scores))
        told = ", ".join(f"{score:.4f}" for score in scores)
        self.folder.log(
            "events",
            {"event": "chosen", "method": method.key, "candidate": best, "scores": told},
        )
        return candidates[best]

    def _held_out_score(
        self, method: Method, targets: Targets, inputs: Inputs, kept: Rows, held: Rows
    ) -> float:
        index = torch.from_numpy(kept)
        with single_thread():
            student = self._student(targets.layout)
            training.fit(
                student,
                Subset(inputs, kept),
                lambda logits, rows: method.loss(logits, targets, index[rows]),
                self.model,
                seed=self._seed,
                progress=f"choosing for {method.key}",
            )
            whole = self._answering(student, targets.layout)
            probs = training.predict(whole, Subset(inputs, held))
        wanted = targets.probs[torch.from_numpy(held)].double().numpy()
        return float(-(wanted * np.log(np.maximum(probs, 1e-12))).sum(axis=1).mean())

    @property
    def _seed(self) -> int:
        return seed_for(self.seed, "server", 0, "student")

    def _student(self, layout: Layout) -> classifier.Classifier:
        return classifier.build(
            self.model,
            layout.outputs(len(self.labels)),
            seed=self._seed,
            public_text=self.transfer,
            fit_text=self.transfer,
            cache=self.folder.root / "cache",
        )

    def _answering(self, student: classifier.Classifier, layout: Layout) -> classifier.Classifier:
        """Return the student as it answers for labels."""
        return student if layout == PLAIN else Collapsed(len(self.labels), student, layout)

    def fit(self, lesson: Lesson, home: Path, title: str) -> Probabilities:
        """Train a fresh student on the transfer set by this lesson; save it and predict."""
        layout = lesson.targets.layout
        with single_thread():
            student = self._student(layout)
            inputs = self._featurised(student, "transfer", self.transfer)
            history = teach(student, inputs, lesson, self.model, self._seed)
            whole = self._answering(student, layout)
            probs = training.predict(whole, self._featurised(student, "test", self.test))
        whole.save(home, self.labels)
        write_json(
            home / "history.json",
            {"held_out_loss": history.held_out_loss, "best_epoch": history.best},
        )
        for epoch, held_out in enumerate(history.held_out_loss):
            self.folder.log(
                "metrics", {"student": title, "epoch": epoch, "held_out_loss": held_out}
            )
        return probs

    def _featurised(
        self, student: classifier.Classifier, name: str, texts: Sequence[str]
    ) -> Inputs:
        if name not in self._inputs:
            self._inputs[name] = training.as_inputs(student, texts)
        return self._inputs[name]


def load_predictions(path: Path) -> Probabilities:
    """Return the stored test probabilities (rows, labels) float64."""
    with np.load(path, allow_pickle=False) as arrays:
        probs: Probabilities = arrays["test"].astype(np.float64)
    return probs


def student_digest(folder: RunFolder, key: str) -> str:
    """Return the sha256 over the files that make up a student, in name order."""
    home = folder.students / slug(key)
    digest = hashlib.sha256()
    for file in sorted(home.rglob("*")):
        if file.is_file() and file.suffix in {".safetensors", ".json", ".txt"}:
            digest.update(f"{file.relative_to(home).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def point_to_main_student(folder: RunFolder, key: str) -> None:
    """Let ``student`` in the run folder lead to the first method's student."""
    link = folder.root / "student"
    if not link.is_symlink():
        link.symlink_to(Path("students") / slug(key), target_is_directory=True)

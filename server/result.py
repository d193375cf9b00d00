"""The figures of one seed: every method and reference, measured on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.files import read_json, write_arrays, write_json
from fedkd.intake import Intake
from fedkd.methods.method import Method
from fedkd.methods.sharpness import match_entropy, mean_entropy
from fedkd.metrics.scores import score_parties
from fedkd.privacy.masking import SUM
from fedkd.run.folder import RunFolder
from fedkd.transport.ground_cost import LabelSpace
from server.distil import student_digest
from server.protocol import Answers, wire_totals

SCHEMA = 1
CONTROL = "sharpness-control"
MOST_PAIRS = 32
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What a seed came to, before it is measured."""

    folder: RunFolder
    methods: tuple[Method, ...]
    space: LabelSpace
    answers: Answers
    students: Mapping[str, Probabilities]


def write_result(outcome: Outcome, scenario: str, seed: int) -> None:
    """Measure everything on the test set and write ``result.json`` with what the report needs."""
    folder, answers = outcome.folder, outcome.answers
    federation = read_json(folder.root / "federation.json")
    for party, rows in zip(answers.transfer.parties, answers.transfer.sizes, strict=True):
        if party in federation["parties"]:
            federation["parties"][party]["rows"] = int(rows)
    for party, figures in answers.teachers.items():
        federation["parties"][party]["own_test"] = figures
    students = {**outcome.students, **sharpness_controls(outcome)}
    references = reference_predictions(answers.test)
    with np.load(folder.truth, allow_pickle=False) as arrays:
        truth, owner = arrays["test"], arrays["party"]
    names = list(federation["parties"])
    predictions = students | references
    many = len(names) > MOST_PAIRS
    measured = {
        key: score_parties(
            probs,
            truth,
            owner,
            _shown(key, names) if many else names,
            cost=outcome.space.cost,
            coordinates=outcome.space.coordinates,
        )
        for key, probs in predictions.items()
    }
    write_labels(folder, outcome.space)
    write_predictions(folder, predictions, truth, owner)
    result = {
        "schema": SCHEMA,
        "scenario": scenario,
        "seed": seed,
        "labels": federation["labels"],
        "methods": {key: measured[key] for key in students},
        "references": {key: measured[key] for key in references},
        "bytes": wire_totals(folder),
        "seconds": stage_seconds(folder),
        "parties": federation["parties"],
        "hashes": {
            "intake": answers.transfer.digest(),
            "student": {m.key: student_digest(folder, m.key) for m in outcome.methods},
        },
        "transfer_rows": federation["transfer_rows"],
        "warnings": federation["warnings"] + list(outcome.space.warnings) + folder.warnings(),
    }
    write_json(folder.result, result)


def reference_predictions(test: Intake) -> dict[str, Probabilities]:
    """Return what each teacher alone, their mean and their geometric mean say of the test set.

    Teachers that did not answer for all of it are left out; of a secure sum only the mean is known.
    """
    if test.parties == (SUM,):
        return {"teachers-mean": test.probs(0, test.rows)[0]}
    everyone = np.arange(len(test.parties))
    whole = everyone if test.present is None else np.flatnonzero(test.present.all(axis=1))
    names = [test.parties[index] for index in whole]
    if not names:
        return {}
    probs = test.probs(0, test.rows)[whole]
    geometric = np.exp(np.log(probs).mean(axis=0))
    geometric /= geometric.sum(axis=-1, keepdims=True)
    references = {f"teacher/{party}": probs[i] for i, party in enumerate(names)}
    return references | {
        "teachers-mean": probs.mean(axis=0),
        "teachers-geometric-mean": geometric,
    }


def sharpness_controls(outcome: Outcome) -> dict[str, Probabilities]:
    """Return CE^γ for each KNOT student: cross-entropy's answers, as sharp as KNOT's.

    γ makes the mean entropy on the test inputs (no label is looked at) equal to that of the KNOT
    student, so what is left between the two is not sharpness. The cross-entropy student with the
    same weights is taken where there is one, else the first.
    """
    methods, students = outcome.methods, outcome.students
    plain = {m.weights: m.key for m in reversed(methods) if m.name == "cross-entropy"}
    controls = {}
    for method in methods:
        if method.name == "knot" and plain:
            key = plain.get(method.weights) or next(reversed(plain.values()))
            matched = match_entropy(students[key], mean_entropy(students[method.key]))
            if not matched.reached:
                outcome.folder.warn(f"{method.key}: no power makes {key} as sharp as this student")
            controls[f"{CONTROL}/{method.key}"] = matched.probs
    return controls


def _shown(key: str, parties: list[str]) -> list[str]:
    """Return the parties on which a row is measured: among many, a teacher on its own alone.

    Every teacher on every party's rows would cost the square of the parties.
    """
    kind, _, teacher = key.partition("/")
    if kind != "teacher":
        return parties
    return [party if party == teacher else "" for party in parties]


def stage_seconds(folder: RunFolder) -> dict[str, float]:
    """Return the seconds of each stage, added up over resumed attempts."""
    seconds: dict[str, float] = {}
    for record in folder.records("events"):
        if record.get("event") == "stage":
            seconds[record["stage"]] = seconds.get(record["stage"], 0.0) + record["seconds"]
    return {stage: round(value, 3) for stage, value in seconds.items()}


def write_predictions(
    folder: RunFolder,
    predictions: Mapping[str, Probabilities],
    truth: NDArray[np.int64],
    owner: NDArray[np.int64],
) -> None:
    """Store every prediction on the test set, for the report's plots."""
    arrays: dict[str, NDArray[Any]] = {"truth": truth, "party": owner}
    for key, probs in predictions.items():
        arrays[f"probs/{key}"] = probs.astype(np.float16)
    write_arrays(folder.predictions, arrays)


def write_labels(folder: RunFolder, space: LabelSpace) -> None:
    """Store the label geometry."""
    coordinates = None if space.coordinates is None else space.coordinates.tolist()
    write_json(
        folder.root / "labels.json",
        {
            "names": list(space.names),
            "geometry": space.geometry,
            "cost": space.cost.tolist(),
            "coordinates": coordinates,
        },
    )

"""The Flower ServerApp: one seed of one scenario, from the first question to the result."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedkd.methods import parse_methods
from fedkd.methods.method import Method
from fedkd.methods.sharpness import match_entropy
from fedkd.party_card import read_rows
from fedkd.run.folder import RunFolder, read_json, write_json, write_text
from fedkd.run.prepare import prepare_run
from fedkd.run.space import spaces_for
from fedkd.scenario import Scenario, load_scenario
from server.distil import Distillery, load_predictions, point_to_main_student, student_digest
from server.protocol import Answers, Terms, run_protocol, wire_totals
from server.result import (
    SCHEMA,
    Probabilities,
    measure,
    reference_predictions,
    stage_seconds,
    write_labels,
    write_predictions,
)
from server.rounds import Rounds

app = ServerApp()
CONTROL = "sharpness-control"


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the scenario named in the run configuration with its seed."""
    config = context.run_config
    seed = int(str(config["seed"]))
    own = str(config.get("run-folder", ""))
    if own:
        folder = RunFolder(Path(own))
        scenario = load_scenario(folder.scenario)
    else:
        overrides = json.loads(str(config.get("overrides") or "[]"))
        scenario = load_scenario(str(config["scenario"]), overrides)
        folder = prepare_run(scenario, seed)
    if not folder.done:
        run_seed(grid, scenario, seed, folder)


def run_seed(grid: Grid, scenario: Scenario, seed: int, folder: RunFolder) -> None:
    """Ask the parties, distil a student for each method, measure, and write the result."""
    methods = parse_methods(scenario.method)
    federation = read_json(folder.root / "federation.json")
    labels = tuple(federation["labels"])
    spaces = spaces_for(scenario, methods, federation, folder.root / "cache")
    transfer = read_rows(folder.public / "transfer.jsonl")["text"]
    test = read_rows(folder.public / "test.jsonl")["text"]
    run = scenario.run
    quorum = scenario.parties.quorum or scenario.parties.count
    biased = any(method.weights == "bias" for method in methods)
    terms = Terms(
        parties=scenario.parties.count,
        quorum=quorum,
        labels=labels,
        block_rows=run.block_rows,
        bias_inputs=scenario.release.bias_inputs if biased else None,
    )
    with _stage(folder, "parties"):
        rounds = Rounds(grid, folder, run.retries, run.deadline)
        answers = run_protocol(grid, folder, rounds, terms, transfer, test)
    works = Distillery(folder, scenario.student, labels, seed, transfer, test)
    students: dict[str, Probabilities] = {}
    for method in methods:
        with _stage(folder, f"distil {method.key}"):
            space = spaces[getattr(method, "geometry", None) or scenario.labels.geometry]
            students[method.key] = works.distil(method, answers.transfer, space)
    with _stage(folder, "measure"):
        _write_result(scenario, seed, folder, methods, answers, students)
    point_to_main_student(folder, methods[0].key)
    write_text(folder.root / "DONE", "")


def _write_result(
    scenario: Scenario,
    seed: int,
    folder: RunFolder,
    methods: tuple[Method, ...],
    answers: Answers,
    students: dict[str, Probabilities],
) -> None:
    federation = read_json(folder.root / "federation.json")
    space = spaces_for(scenario, methods, federation, folder.root / "cache")[
        scenario.labels.geometry
    ]
    with np.load(folder.truth, allow_pickle=False) as arrays:
        truth, owner = arrays["test"], arrays["party"]
    references = reference_predictions(answers.test)
    for file in sorted(folder.bounds.glob("*.npz")):
        references[file.stem] = load_predictions(file)
    methods_and_controls = students | sharpness_controls(methods, students)
    parties = list(federation["parties"])
    for party, figures in answers.teachers.items():
        federation["parties"][party]["own_test"] = figures
    everything = methods_and_controls | references
    measured = measure(everything, truth, owner, parties, space)
    write_labels(folder, space)
    write_predictions(folder, everything, truth, owner)
    write_json(
        folder.result,
        {
            "schema": SCHEMA,
            "scenario": scenario.name,
            "seed": seed,
            "labels": federation["labels"],
            "methods": {key: measured[key] for key in methods_and_controls},
            "references": {key: measured[key] for key in references},
            "bytes": wire_totals(folder),
            "seconds": stage_seconds(folder),
            "parties": federation["parties"],
            "hashes": {
                "intake": answers.transfer.digest(),
                "student": {m.key: student_digest(folder, m.key) for m in methods},
            },
            "transfer_rows": federation["transfer_rows"],
            "warnings": federation["warnings"] + list(space.warnings),
        },
    )


def sharpness_controls(
    methods: tuple[Method, ...], students: dict[str, Probabilities]
) -> dict[str, Probabilities]:
    """Return CE^γ for each KNOT student: cross-entropy's answers, as sharp as KNOT's.

    γ makes the mean entropy on the test inputs (no label is looked at) equal to that of the KNOT
    student, so what is left between the two is not sharpness.
    """
    plain = {m.weights: m.key for m in reversed(methods) if m.name == "cross-entropy"}
    if not plain:
        return {}
    controls = {}
    for method in methods:
        if method.name == "knot":
            key = plain.get(method.weights) or next(iter(plain.values()))
            controls[f"{CONTROL}/{method.key}"] = match_entropy(students[key], students[method.key])
    return controls


@contextmanager
def _stage(folder: RunFolder, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    folder.log("events", {"event": "stage", "stage": name, "seconds": seconds})

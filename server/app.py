"""The Flower ServerApp: one seed of one scenario, from the first question to the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedkd.files import read_json, read_rows, write_text
from fedkd.intake import Intake
from fedkd.methods import parse_methods
from fedkd.methods.method import Method
from fedkd.methods.summed import over_the_sum, secure_weights
from fedkd.run.folder import RunFolder
from fedkd.run.prepare import prepare_run
from fedkd.run.space import spaces_for
from fedkd.scenario import Scenario
from fedkd.scenario_file import load_scenario
from server.distil import Distillery, point_to_main_student
from server.protocol import Terms, receiver_for, run_protocol
from server.questions import ask_further
from server.result import Outcome, write_result
from server.rounds import Rounds
from server.sealed import seal, unseal
from server.secure import run_secure

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the scenario named in the run configuration with its seed.

    ``run-folder`` names a folder that is laid out already; without it the scenario file is read,
    its ``overrides`` (a JSON list of ``key=value``) are laid over it, and the folder is made.
    """
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
    if not folder.done and scenario.topics is not None:
        from server.topics import run_topics  # noqa: PLC0415  # imports the text encoders

        run_topics(grid, scenario, seed, folder)
    elif not folder.done:
        run_seed(grid, scenario, seed, folder)


def run_seed(grid: Grid, scenario: Scenario, seed: int, folder: RunFolder) -> None:
    """Ask the parties, distil a student for each method, measure, and write the result."""
    methods = parse_methods(scenario.method)
    summed = secure_weights(scenario, methods)
    if summed is not None:
        methods = over_the_sum(methods)
    federation = read_json(folder.root / "federation.json")
    labels = tuple(federation["labels"])
    spaces = spaces_for(scenario, methods, federation, folder.root / "cache")
    transfer = read_rows(folder.public / "transfer.jsonl")["text"]
    test = read_rows(folder.public / "test.jsonl")["text"]
    run = scenario.run
    rounds = Rounds(grid, folder, run.retries, run.deadline, run.backoff)
    chosen = {method.key: spaces[method.ground or scenario.labels.geometry] for method in methods}
    with folder.stage("parties"):
        terms = terms_of(scenario, methods, labels)
        answers = unseal(folder, terms, transfer, test)
        if answers is None:
            if summed is not None:
                answers = run_secure(rounds, terms, transfer, test, summed)
            else:
                answers = run_protocol(rounds, terms, transfer, test)
            questions = [q for m in methods for q in m.questions(answers.transfer, chosen[m.key])]
            receiver = receiver_for(folder, "transfer", terms, transfer)
            ask_further(rounds, receiver, questions, answers.transfer, terms.quorum)
            seal(folder, answers)
        intake = with_fine_labels(answers.transfer, folder)
    works = Distillery(folder, scenario.student, labels, seed, transfer, test)
    students = {}
    for method in methods:
        with folder.stage(f"distil {method.key}"):
            students[method.key] = works.distil(method, intake, chosen[method.key])
    own_space = spaces[scenario.labels.geometry]
    write_result(Outcome(folder, methods, own_space, answers, students), scenario.name, seed)
    point_to_main_student(folder, methods[0].key)
    write_text(folder.root / "DONE", "")


def with_fine_labels(intake: Intake, folder: RunFolder) -> Intake:
    """Return the intake with the transfer rows' true fine labels where a simulation has them.

    They serve reference splitters alone; a deployed server's folder holds none.
    """
    if not folder.truth.is_file():
        return intake
    with np.load(folder.truth, allow_pickle=False) as arrays:
        return replace(intake, fine=arrays["fine"]) if "fine" in arrays else intake


def terms_of(scenario: Scenario, methods: tuple[Method, ...], labels: tuple[str, ...]) -> Terms:
    """Return what the round asks of the parties."""
    biased = any(method.weights == "bias" for method in methods)
    return Terms(
        parties=scenario.parties.count,
        quorum=scenario.parties.quorum or scenario.parties.count,
        labels=labels,
        block_rows=scenario.run.block_rows,
        bias_inputs=scenario.release.bias_inputs if biased else None,
        deliver=scenario.data.transfer.delivery == "server",
    )

"""Two hundred seeded fault schedules: nothing is lost, nothing is used twice, no traceback."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clients.app import app
from fedkd.errors import QuorumError
from fedkd.fault_scenario import FaultKind
from fedkd.files import read_json, read_json_lines, read_rows
from fedkd.methods import parse_methods
from fedkd.run.folder import RunFolder
from fedkd.run.grid import InlineGrid
from fedkd.run.prepare import prepare_run
from fedkd.scenario import Scenario
from server.app import terms_of
from server.protocol import run_protocol
from server.rounds import Rounds
from tests.system.small import small

KINDS: tuple[FaultKind, ...] = (
    "drop", "delay", "crash-before", "crash-after", "corrupt", "nan", "replay", "oversize",
)  # fmt: skip
STAGES = ("describe", "train", "answer", "bias", "evaluate")
SCHEDULES = 200


def scenario(out: Path, quorum: int = 1) -> Scenario:
    return small(
        out,
        parties={"count": 4, "partition": {"by": "domain"}, "quorum": quorum},
        method=[{"name": "knot", "weights": "bias"}],
        run={"out": str(out), "block_rows": 64, "backoff": 0.0},
        release={"bias_inputs": 50},
    )


def ask(plan: Scenario, folder: RunFolder):
    grid = InlineGrid(app, 4, {"seed": 0, "run-folder": str(folder.root.resolve())})
    labels = tuple(read_json(folder.root / "federation.json")["labels"])
    rounds = Rounds(grid, folder, plan.run.retries, 0.2, 0.0)
    terms = terms_of(plan, parse_methods(plan.method), labels)
    texts = (read_rows(folder.public / f"{name}.jsonl")["text"] for name in ("transfer", "test"))
    return run_protocol(rounds, terms, *texts)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A finished round without faults; its parties have trained and answered once."""
    plan = scenario(tmp_path_factory.mktemp("honest"))
    folder = prepare_run(plan, 0)
    grid = InlineGrid(app, 4, {"seed": 0, "run-folder": str(folder.root.resolve())})
    labels = tuple(read_json(folder.root / "federation.json")["labels"])
    terms = terms_of(plan, parse_methods(plan.method), labels)
    texts = (read_rows(folder.public / f"{name}.jsonl")["text"] for name in ("transfer", "test"))
    answers = run_protocol(Rounds(grid, folder, 0, 600.0), terms, *texts)
    return folder, answers


def replay(honest: RunFolder, out: Path, faults: dict[str, object]) -> RunFolder:
    """Copy the honest run without what the server received, and give the parties faults."""
    folder = RunFolder(out / "run")
    kept = shutil.ignore_patterns("intake", "evaluation", "*.jsonl.partial", "ledger.jsonl")
    shutil.copytree(honest.root, folder.root, ignore=kept)
    for name in ("events", "wire", "ledger"):
        (folder.root / f"{name}.jsonl").unlink(missing_ok=True)
    for index in range(4):
        card = folder.party(index) / "party.json"
        values = json.loads(card.read_text())
        card.write_text(json.dumps(values | {"faults": faults}))
    return folder


@pytest.mark.parametrize("part", range(8))
def test_fault_schedules(part, honest, tmp_path):
    whole, good = honest
    seen: Counter[str] = Counter()
    completed = 0
    for number in range(part, SCHEDULES, 8):
        generator = np.random.default_rng(number)
        kind = KINDS[number % len(KINDS)]
        stage = STAGES[(number // len(KINDS)) % len(STAGES)]
        mixed = number % 3 == 0
        faults: dict[str, object] = {
            "seed": number,
            "rate": float(generator.choice([0.2, 0.5, 0.9])),
            "kinds": list(KINDS) if mixed else [kind],
            "stages": list(STAGES) if mixed else [stage],
            "delay": 0.3 if number % 16 == 1 else 0.0,
        }
        folder = replay(whole, tmp_path / str(number), faults)
        try:
            answers = ask(scenario(tmp_path), folder)
        except QuorumError as error:
            assert "Try" in str(error)
        else:
            completed += 1
            seen.update({"absent": int(answers.transfer.present is not None)})
            check_answers(answers, good)
        check_records(folder)
        seen.update(event["event"] for event in folder.records("events"))
        shutil.rmtree(folder.root)
    assert completed > 10
    assert seen["unusable reply"] > 50


def check_answers(answers, good) -> None:
    """What was accepted equals the honest answers; what was not is marked absent."""
    for intake, model in ((answers.transfer, good.transfer), (answers.test, good.test)):
        for index, party in enumerate(intake.parties):
            there = np.ones(intake.rows, bool) if intake.present is None else intake.present[index]
            got, want = np.asarray(intake.raw(party)), np.asarray(model.raw(party))
            assert there.any()
            assert (got[there] == want[there]).all()
    if answers.transfer.bias is not None:
        names = list(good.transfer.parties)
        rows = [names.index(party) for party in answers.transfer.parties]
        np.testing.assert_array_equal(answers.transfer.bias, good.transfer.bias[rows])


def check_records(folder: RunFolder) -> None:
    """Every accepted block stands once in the ledger of the server and in that of its party."""
    server = list(folder.records("ledger"))
    requests = [entry["request"] for entry in server]
    assert len(requests) == len(set(requests)), "a release was used twice"
    received = [
        f"answer/{name}/{home.name}/{entry['rows'][0]}-{entry['rows'][1]}"
        for name, place in (("transfer", folder.intake), ("test", folder.evaluation))
        for home in place.glob("*")
        for entry in read_json_lines(home / "received.jsonl")
    ]
    assert sorted(r for r in requests if r.startswith("answer/")) == sorted(received)
    own = {
        entry["request"]: entry["sha256"]
        for index in range(4)
        for entry in read_json_lines(folder.party(index) / "ledger.jsonl")
    }
    for entry in server:
        assert own[entry["request"]] == entry["sha256"]

"""Privacy through the whole protocol: caps, kills, the wire under every mechanism, and a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedkd.cli import app
from fedkd.files import read_json, read_rows, write_json
from fedkd.privacy.accountant import Event, calibrate
from fedkd.privacy.compare import check_agreement, compare_ledgers
from fedkd.privacy.ledger import read_ledger
from fedkd.report.frontier import write_frontier
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.wire import content_release, decode_content
from fedkd.scenario import Scenario
from tests.system.small import PowerCutError, power_cut, small, write_scenario

CAP = 3.0
DELTA = 1e-5
ONE_METHOD = [{"name": "cross-entropy"}]
QUICK = {"model": "bow", "epochs": 1}


def capped(out: Path) -> Scenario:
    """Return four noisy parties, the first with a cap that two blocks of three would exceed."""
    noise = calibrate(lambda s: Event("gaussian", s / 2**0.5, 100), CAP, DELTA)
    return small(
        out,
        parties={"count": 4, "partition": {"by": "domain"}, "quorum": 3},
        teacher=QUICK,
        student=QUICK,
        method=ONE_METHOD,
        privacy={
            "mechanism": {"name": "gaussian", "noise": noise},
            "override": [{"parties": [0], "epsilon": CAP}],
        },
    )


def name_of(folder: RunFolder, index: int) -> str:
    return str(read_json(folder.party(index) / "party.json")["name"])


def spent(folder: RunFolder, index: int = 0) -> float:
    entries = read_ledger(folder.party(index) / "ledger.jsonl")
    return max(entry["epsilon_rdp"] or 0.0 for entry in entries)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    return run_scenario(capped(tmp_path_factory.mktemp("capped"))).seeds[0]


def test_a_capped_party_stops_at_the_right_request_and_the_others_go_on(whole):
    party = name_of(whole, 0)
    own = [e["request"] for e in read_ledger(whole.party(0) / "ledger.jsonl") if e["rows"]]
    assert own == [f"answer/transfer/{party}/0-64"]
    assert 0 < spent(whole) < CAP
    (event,) = [e for e in whole.records("events") if e["event"].startswith("party asked for no")]
    assert event["party"] == party
    assert event["request"] == f"answer/transfer/{party}/64-128"
    asked = [
        record["request"]
        for record in whole.records("wire")
        if record["party"] == party and record.get("direction") == "down"
    ]
    assert asked.count(f"answer/transfer/{party}/64-128") == 1, "no retry of a final refusal"
    assert f"answer/transfer/{party}/128-150" not in asked
    for index in (1, 2, 3):
        last = read_ledger(whole.party(index) / "ledger.jsonl")[-1]
        assert last["rows"] == [128, 150]
        assert spent(whole, index) > CAP
    assert any(party in warning for warning in read_json(whole.result)["warnings"])
    check_agreement(compare_ledgers(whole.root))


@pytest.mark.parametrize("message", [14, 18, 25])
def test_killed_and_resumed_it_stays_below_the_cap(message, whole, tmp_path):
    scenario = capped(tmp_path)
    with pytest.raises(PowerCutError):
        run_scenario(scenario, tap=power_cut(message))
    folder = run_scenario(scenario).seeds[0]
    assert 0 < spent(folder) == spent(whole) < CAP
    assert read_json(folder.result)["hashes"] == read_json(whole.result)["hashes"]
    assert compare_ledgers(folder.root).totals == compare_ledgers(whole.root).totals
    check_agreement(compare_ledgers(folder.root))


MIXTURES = (
    (
        {"name": "dp-sgd", "noise": 2, "steps": 4},
        {"name": "pate", "noise": 3, "teachers": 3},
        {"name": "randomised-response", "epsilon_each": 1},
        {"name": "laplace", "noise": 0.5},
    ),
    (
        {"name": "gaussian", "noise": 0.5, "clip": 0.4},
        {"name": "temperature", "temperature": 3},
        {"name": "top-k", "keep": 2},
        {"name": "rounding", "decimals": 1},
    ),
    ({"name": "argmax"}, {"name": "none"}, {"name": "none"}, {"name": "none"}),
)


@pytest.mark.parametrize("mechanisms", MIXTURES)
def test_under_every_mechanism_only_releases_and_figures_cross(mechanisms, tmp_path):
    messages: list[tuple[str, str, bytes]] = []
    overrides = [{"parties": [i], "mechanism": own} for i, own in enumerate(mechanisms)]
    scenario = small(
        tmp_path, teacher=QUICK, student=QUICK, method=ONE_METHOD, privacy={"override": overrides}
    )
    finished = run_scenario(
        scenario,
        tap=lambda way, sent, data: messages.append((way, sent.metadata.message_type, data)),
    )
    folder = finished.seeds[0]
    up = [(kind, decode_content(data)) for way, kind, data in messages if way == "up"]
    used = set()
    for kind, content in up:
        if kind == "query.answer" and "refusal" not in content:
            identifier = str(content.config_records["release.facts"]["request_id"])
            release = content_release(content, identifier)
            assert set(release.arrays) == {"probs"}
            used.add(release.mechanism)
        else:
            assert list(content.keys()) in (["metrics"], ["description"], ["refusal"])
    assert used == {"none" if own["name"] == "dp-sgd" else own["name"] for own in mechanisms}
    stream = b"\0".join(data for *_, data in messages)
    for index in range(4):
        for text in read_rows(folder.party(index) / "private.jsonl")["text"]:
            assert text.encode() not in stream
    check_weights(folder, stream)
    found = compare_ledgers(folder.root)
    check_agreement(found)
    bounded = {total.mechanism for total in found.totals if total.epsilon_rdp is not None}
    assert bounded == {own["name"] for own in mechanisms} & {
        "dp-sgd", "pate", "randomised-response", "laplace", "gaussian",
    }  # fmt: skip


def check_weights(folder: RunFolder, stream: bytes) -> None:
    from safetensors.numpy import load_file

    for file in folder.parties.rglob("*.safetensors"):
        for name, tensor in load_file(file).items():
            if tensor.dtype == np.float32 and tensor.size >= 8 and np.unique(tensor).size > 4:
                assert tensor.ravel()[:8].tobytes() not in stream, f"weights {name} crossed"


def test_a_sweep_runs_every_arm_and_draws_them(tmp_path):
    scenario = small(
        tmp_path,
        seeds=[0, 1],
        teacher=QUICK,
        student=QUICK,
        method=ONE_METHOD,
        privacy={
            "arm": [
                {"name": "nothing"},
                {
                    "name": "dp-sgd-3", "epsilon": 3,
                    "mechanism": {"name": "dp-sgd", "steps": 4},
                },
            ]
        },
    )  # fmt: skip
    finished = run_scenario(scenario)
    assert finished.folder == scenario.folder()
    assert len(finished.seeds) == 4 and all(seed.done for seed in finished.seeds)
    values = read_json(finished.folder / "frontier.json")
    nothing, private = values["arms"]
    assert nothing["epsilon_rdp"] is None and nothing["unit"] is None
    assert 2.9 < private["epsilon_rdp"]["mean"] <= 3
    assert private["epsilon_pld"]["mean"] <= private["epsilon_rdp"]["mean"]
    assert private["accuracy"]["half_width"] is not None
    page = finished.report.read_text()
    assert "dp-sgd-3" in page and "fedkd audit" in page and "<svg" in page
    bounds = [seed.bounds / "student-pooled.npz" for seed in finished.seeds]
    assert bounds[0].read_bytes() == bounds[2].read_bytes()
    before = [seed.result.stat().st_mtime_ns for seed in finished.seeds]
    assert [s.result.stat().st_mtime_ns for s in run_scenario(scenario).seeds] == before
    for number, seed in enumerate(finished.seeds):
        audit = {
            "label_inference": {"a": {"tv": 0.1 * number}, "b": {"tv": 0.3}},
            "membership": {
                "a": {"confidence": {"auc": 0.6, "low": 0.5, "high": 0.7}, "other": {"auc": 0.5}},
            },
        }
        write_json(seed.root / "audit.json", audit)
    write_frontier(finished.folder)
    audited = read_json(finished.folder / "frontier.json")["arms"][0]
    assert audited["label_tv"]["mean"] == pytest.approx((0.15 + 0.2) / 2)
    assert audited["member_auc"]["mean"] == pytest.approx(0.6)
    assert "fedkd audit" not in (finished.folder / "report.html").read_text()
    printed = CliRunner().invoke(app, ["report", str(tmp_path / "small")])
    assert printed.exit_code == 0 and "dp-sgd-3" in printed.output


def test_the_check_says_what_is_guaranteed_and_what_is_not(tmp_path):
    privacy = {
        "epsilon": 3,
        "mechanism": {"name": "gaussian"},
        "override": [{"parties": [1], "epsilon": 1}],
    }
    file = write_scenario(tmp_path / "noisy.toml", small(tmp_path, privacy=privacy))
    printed = CliRunner().invoke(app, ["check", str(file)])
    assert printed.exit_code == 0
    assert "gaussian, epsilon 3 at delta 1e-05" in printed.output
    assert "gaussian, epsilon 1 at delta 1e-05" in printed.output
    assert "not claimed" in printed.output and "number of private rows" in printed.output
    assert "0 B for the public test set" in printed.output
    file.write_text(file.read_text().replace("epsilon = 3", "delta = 0.2\nepsilon = 3"))
    told = CliRunner().invoke(app, ["check", str(file)])
    assert told.exit_code != 0 and "1 / rows" in str(told.exception)


def test_the_ledger_command_agrees_and_tells_of_tampering(whole):
    printed = CliRunner().invoke(app, ["ledger", str(whole.root)])
    assert printed.exit_code == 0
    assert "both sides agree" in printed.output and "epsilon" in printed.output
    file = whole.root / "ledger.jsonl"
    text = file.read_text()
    lines = text.splitlines()
    broken = json.loads(lines[5]) | {"wire_bytes": 1}
    file.write_text("\n".join([*lines[:5], json.dumps(broken), *lines[6:]]) + "\n")
    try:
        told = CliRunner().invoke(app, ["ledger", str(whole.root)])
        assert told.exit_code != 0 and "entry 5" in str(told.exception)
        file.write_text("\n".join(lines[:-1]) + "\n")
        told = CliRunner().invoke(app, ["ledger", str(whole.root)])
        assert told.exit_code != 0 and "the server has no entry" in str(told.exception)
    finally:
        file.write_text(text)

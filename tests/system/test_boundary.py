"""What crosses between a party and the server, read message by message."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from flwr.app import MetricRecord
from flwr.clientapp import ClientApp

from clients.app import guarded
from fedkd.files import read_json, read_json_lines, read_rows
from fedkd.privacy.ledger import facts
from fedkd.release import fingerprint
from fedkd.run.engine import run_scenario
from fedkd.run.grid import InlineGrid
from fedkd.run.plan import make_plan
from fedkd.run.prepare import prepare_run
from fedkd.run.wire import (
    content_release,
    decode_content,
    refusal_reason,
    request_content,
    request_fields,
)
from tests.system.small import Recorder, small

FIGURES = {"rows", "epochs", "accuracy", "macro_f1", "nll", "ece"}
REQUEST_FIELDS = {
    "request_id", "attempt", "limit", "rejected", "set", "start", "stop", "transfer_id",
}  # fmt: skip


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """Every message of one run, as the bytes that crossed."""
    recorder = Recorder()
    methods = [{"name": "knot", "weights": "bias"}, {"name": "cross-entropy"}]
    scenario = small(tmp_path_factory.mktemp("wire"), method=methods)
    finished = run_scenario(scenario, tap=recorder)
    return finished.seeds[0], recorder.messages


def test_replies_are_releases_figures_or_descriptions(traffic):
    folder, messages = traffic
    texts = (read_rows(folder.public / f"{name}.jsonl")["text"] for name in ("transfer", "test"))
    public = {fingerprint(text) for text in texts}
    kinds = set()
    for direction, kind, _, data in messages:
        content = decode_content(data)
        kinds.add((direction, kind))
        if direction == "down":
            assert set(content) == {"request"}
            assert set(request_fields(content)) <= REQUEST_FIELDS
        elif kind in ("query.answer", "query.bias"):
            identifier = str(content.config_records["release.facts"]["request_id"])
            release = content_release(content, identifier)
            assert set(release.arrays) == ({"probs"} if kind == "query.answer" else {"bias"})
            assert release.transfer_id in public
            if kind == "query.answer":
                assert len(release.arrays["probs"]) == release.rows[1] - release.rows[0]
        elif kind == "query.describe":
            assert set(content) == {"description"}
            assert set(content.config_records["description"]) == {
                "party", "rows", "label_id", "teacher",
            }  # fmt: skip
        else:
            assert set(content) == {"metrics"}
            record = content.metric_records["metrics"]
            assert isinstance(record, MetricRecord)
            assert set(record) <= FIGURES
            assert all(isinstance(value, int | float) for value in record.values())
    expected = {"query.describe", "train.teacher", "query.answer", "query.bias", "evaluate.teacher"}
    assert kinds == {(way, kind) for way in ("down", "up") for kind in expected}


def test_no_private_text_and_no_weights_on_the_wire(traffic):
    folder, messages = traffic
    stream = b"\0".join(data for *_, data in messages)
    private = 0
    for index in range(4):
        for text in read_rows(folder.party(index) / "private.jsonl")["text"]:
            private += 1
            assert text.encode() not in stream
    assert private > 300
    from safetensors.numpy import load_file

    for file in folder.parties.rglob("*.safetensors"):
        for name, tensor in load_file(file).items():
            if tensor.size >= 8 and np.unique(tensor).size > 4:
                start = tensor.ravel()[:8].tobytes()
                assert start not in stream, f"weights {name} crossed"


def test_result_counts_the_bytes_of_the_wire(traffic):
    folder, messages = traffic
    result = read_json(folder.result)
    nodes = sorted({party for _, _, party, _ in messages})
    counted = {node: defaultdict(int) for node in nodes}
    for direction, _, node, data in messages:
        counted[node][direction] += len(data)
    order = list(result["parties"])
    for index, node in enumerate(nodes):
        assert result["bytes"][order[index]] == dict(counted[node])


def test_both_ledgers_agree(traffic):
    folder, _ = traffic
    server = list(map(facts, folder.records("ledger")))
    files = [folder.party(i) / "ledger.jsonl" for i in range(4)]
    own = [facts(entry) for file in files for entry in read_json_lines(file)]
    key = lambda entry: (entry["party"], entry["request"])  # noqa: E731
    assert sorted(server, key=key) == sorted(own, key=key)
    assert {entry["kind"] for entry in own} == {
        "describe", "train", "probabilities", "statistic", "evaluate",
    }  # fmt: skip


def test_plan_foretells_the_bytes_of_the_answers(traffic, tmp_path):
    _, messages = traffic
    plan = make_plan(small(tmp_path, method=[{"name": "knot", "weights": "bias"}]))
    nodes = {node for _, _, node, _ in messages}
    for node in nodes:
        sent = sum(
            len(data)
            for way, kind, party, data in messages
            if way == "up" and party == node and kind in ("query.answer", "query.bias")
        )
        told = plan.answer_bytes + plan.evaluation_bytes + plan.bias_bytes
        assert abs(sent - told) <= 0.02 * sent


def test_teacher_fault_leaves_only_its_type(tmp_path: Path):
    folder = prepare_run(small(tmp_path), 0)
    app = ClientApp()

    @app.query("leak")
    @guarded
    def leak(party, fields):
        raise ValueError(read_rows(party.folder / "private.jsonl")["text"][0])

    grid = InlineGrid(app, 1, {"seed": 0, "run-folder": str(folder.root.resolve())})
    (node,) = grid.get_node_ids()
    message = grid.create_message(request_content({"request_id": "x"}), "query.leak", node, "")
    (reply,) = grid.send_and_receive([message])
    reason = refusal_reason(reply.content)
    secret = read_rows(folder.party(0) / "private.jsonl")["text"][0]
    assert reason is not None and reason.startswith("ValueError")
    assert secret not in reason
    assert secret in (folder.party(0) / "errors.log").read_text()

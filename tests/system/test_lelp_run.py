"""Subclasses through the whole protocol: what crosses, what is kept, and what a student answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from clients.party import open_party
from fedkd.errors import ReleaseError
from fedkd.files import read_json, read_json_lines, read_rows
from fedkd.models import classifier, training
from fedkd.models.embeddings import embed, head_weights
from fedkd.privacy.ledger import facts
from fedkd.run.engine import run_scenario
from fedkd.run.plan import make_plan
from fedkd.run.student import label_texts
from fedkd.run.wire import content_release, decode_content, request_fields
from fedkd.scenario_file import load_scenario
from fedkd.subclass.question import question_name
from fedkd.subclass.split import Split
from tests.system.small import Recorder, small

BOW = {"model": "bow", "hidden": 16, "epochs": 3}
DESIGNS = ["a0", "a1", "a2", "b1", "b2"]
METHODS = [{"name": "kd", "temperature": 4}] + [
    {"name": "lelp", "design": design, "subclasses": 3} for design in DESIGNS
]
FURTHER_FIELDS = {
    "request_id", "attempt", "limit", "rejected", "name", "start", "stop", "membership",
    "kind", "transfer_id", "subclasses", "beta", "splitter", "null_projection", "rotation", "seed",
    "landmarks",
}  # fmt: skip


def lelp(out: Path, **changes):
    values = {"teacher": BOW, "student": BOW, "method": METHODS, "labels": {"geometry": "onehot"}}
    return small(out, **(values | changes))


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    recorder = Recorder()
    finished = run_scenario(lelp(tmp_path_factory.mktemp("lelp")), tap=recorder)
    return finished.seeds[0], recorder.messages


def test_every_design_ends_in_a_student(traffic):
    folder, _ = traffic
    result = read_json(folder.result)
    expected = {"kd/4"} | {f"lelp/{design}/decoupled" for design in DESIGNS}
    assert set(result["methods"]) == expected
    for key in expected:
        probs = training.predict(classifier.load(folder.student(key)), ["the day was long"])
        assert probs.shape == (1, len(result["labels"]))
        np.testing.assert_allclose(probs.sum(), 1)
        (line,) = label_texts(folder.root, ["the day was long"], key)
        assert line.split()[0] in result["labels"]


def test_only_the_asked_arrays_leave_and_the_head_stays(traffic):
    folder, messages = traffic
    kinds = set()
    for direction, kind, _, data in messages:
        if kind not in ("query.further", "query.agree"):
            continue
        content = decode_content(data)
        if direction == "down":
            assert set(request_fields(content)) <= FURTHER_FIELDS
        elif kind == "query.agree":
            assert set(content) == {"metrics"}
        else:
            identifier = str(content.config_records["release.facts"]["request_id"])
            release = content_release(content, identifier)
            kinds.add((release.kind, tuple(sorted(release.arrays))))
    assert kinds == {
        ("subclasses", ("subclasses",)),
        ("scores", ("scores",)),
        ("embeddings", ("embeddings", "probs")),
        ("grams", ("grams",)),
    }
    stream = b"\0".join(data for *_, data in messages)
    for index in range(4):
        party = open_party(folder.party(index))
        head = head_weights(classifier.load(party.folder / "teacher"))
        assert head.astype(np.float32).tobytes()[:32] not in stream
        assert head.astype(np.float16).tobytes()[:32] not in stream


def test_embeddings_that_leave_hide_what_the_head_reads(traffic):
    folder, _ = traffic
    party = open_party(folder.party(1))
    teacher = classifier.load(party.folder / "teacher")
    texts = read_rows(folder.public / "transfer.jsonl")["text"]
    (file,) = (folder.intake / party.card.name).glob("embeddings-*.npy")
    released = np.load(file).astype(np.float64)
    head = head_weights(teacher)
    seen = released @ (head - head.mean(axis=0)).T
    before = embed(teacher, texts).astype(np.float64) @ (head - head.mean(axis=0)).T
    assert np.abs(seen).max() < 2e-2 * np.abs(before).max()


def test_ledgers_agree_and_the_wire_is_counted(traffic):
    folder, messages = traffic
    server = list(map(facts, folder.records("ledger")))
    files = [folder.party(i) / "ledger.jsonl" for i in range(4)]
    own = [facts(entry) for file in files for entry in read_json_lines(file)]
    key = lambda entry: (entry["party"], entry["request"])  # noqa: E731
    assert sorted(server, key=key) == sorted(own, key=key)
    assert {entry["kind"] for entry in own} == {
        "describe", "train", "probabilities", "agree", "subclasses", "scores", "embeddings",
        "grams", "evaluate",
    }  # fmt: skip
    told = {entry["made"] for entry in own if entry["kind"] == "subclasses"}
    assert told == {"3 subclasses, null projection on, fitted on 150 public rows"}
    total = sum(sum(way.values()) for way in read_json(folder.result)["bytes"].values())
    assert total == sum(len(data) for *_, data in messages)


def test_two_designs_that_ask_the_same_are_asked_once(traffic):
    folder, _ = traffic
    names = sorted(
        file.name
        for file in (folder.intake / open_party(folder.party(0)).card.name).glob(
            "*-????????????.npy"
        )
    )
    assert [name.split("-")[0] for name in names] == ["embeddings", "grams", "scores", "subclasses"]


def test_a_repeated_question_gives_the_same_bytes_and_a_wrong_one_is_refused(traffic):
    folder, _ = traffic
    party = open_party(folder.party(0))
    (entry,) = {
        e["request"].split("/")[1]
        for e in folder.records("ledger")
        if e["kind"] == "subclasses" and e["party"] == party.card.name
    }
    files = sorted((party.folder / "consensus" / entry).glob("*.npy"))
    member = np.concatenate([np.load(file) for file in files])
    split = Split(3, 0.25, "pca", True, "random", 0)
    assert question_name("subclasses", split, member) == entry
    fields = {**split.fields(), "kind": "subclasses", "name": entry}
    texts = read_rows(folder.public / "transfer.jsonl")["text"]
    from fedkd.release import fingerprint

    own = fingerprint(texts)
    first, again = (party.further(fields, (0, 5), own) for _ in range(2))
    assert first.arrays["subclasses"].tobytes() == again.arrays["subclasses"].tobytes()
    for wrong in ({"beta": 0.5}, {"subclasses": 0}, {"name": "../x"}, {"kind": "topics"}):
        with pytest.raises(ReleaseError):
            party.further(fields | wrong, (0, 5), own)
    with pytest.raises(ReleaseError):
        party.further(fields, (0, 5), "0" * 64)


def test_two_runs_give_the_same_bits_and_a_resumed_one_too(traffic, tmp_path):
    folder, _ = traffic
    first = read_json(folder.result)["hashes"]
    again = run_scenario(lelp(tmp_path)).seeds[0]
    assert read_json(again.result)["hashes"] == first
    for path in (again.result, again.root / "DONE"):
        path.unlink()
    asked: list[str] = []

    def tap(direction: str, message: Message, data: bytes) -> None:
        asked.append(message.metadata.message_type)

    run_scenario(lelp(tmp_path), tap=tap)
    assert read_json(again.result)["hashes"] == first
    assert "query.further" not in asked and "query.agree" not in asked


def test_a_party_that_fails_the_question_leaves_the_others_going(tmp_path):
    scenario = lelp(
        tmp_path,
        method=[{"name": "lelp"}],
        parties={"count": 4, "partition": {"by": "domain"}, "quorum": 3},
        teacher={**BOW, "override": [{"parties": [2], "hidden": 0}]},
    )
    result = read_json(run_scenario(scenario).seeds[0].result)
    assert "150 rows lack the subclasses of a teacher" in "\n".join(result["warnings"])


def test_tuned_distillation_leaves_a_record_of_its_choice(tmp_path):
    scenario = lelp(tmp_path, method=[{"name": "kd"}])
    folder = run_scenario(scenario).seeds[0]
    (chosen,) = [e for e in folder.records("events") if e["event"] == "chosen"]
    scores = [float(score) for score in chosen["scores"].split(", ")]
    assert len(scores) == 4 and scores[chosen["candidate"]] == min(scores)


def test_the_plan_tells_the_bytes_of_the_answers(traffic, tmp_path):
    _, messages = traffic
    plan = make_plan(lelp(tmp_path))
    nodes = {node for _, _, node, _ in messages}
    for node in nodes:
        sent = sum(
            len(data)
            for way, kind, party, data in messages
            if way == "up" and party == node and kind == "query.further"
        )
        assert abs(sent - plan.further_bytes) <= 0.05 * sent


@pytest.mark.parametrize(
    "name", ["lelp-digits", "lelp-synthetic", "lelp-federated", "lelp-companions"]
)
def test_shipped_scenarios_run(name, tmp_path):
    file = Path(__file__).parents[2] / "scenarios" / f"{name}.toml"
    changes = [f"run.out={tmp_path}", "seeds=[0]", "student.steps=20", "teacher.steps=40"]
    result = read_json(run_scenario(load_scenario(file, changes)).seeds[0].result)
    assert result["transfer_rows"] == {"lelp-digits": 150}.get(name, 300)
    assert all(figures["accuracy"] > 0.4 for figures in result["methods"].values())


def test_teachers_may_learn_their_subclasses_with_their_labels(tmp_path):
    method = {"name": "lelp", "splitter": "learned", "subclasses": 3, "objective": "joint"}
    scenario = lelp(tmp_path, teacher=BOW | {"subclasses": 3}, method=[method])
    folder = run_scenario(scenario).seeds[0]
    party = open_party(folder.party(0))
    teacher = classifier.load(party.folder / "teacher")
    texts = read_rows(folder.public / "transfer.jsonl")["text"]
    fine = training.predict(teacher.fine, texts).reshape(len(texts), -1, 3)
    np.testing.assert_allclose(fine.sum(axis=2), training.predict(teacher, texts), atol=1e-6)
    (file,) = (folder.intake / party.card.name).glob("subclasses-*.npy")
    inside = (fine ** (1 / 0.25)) / (fine ** (1 / 0.25)).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(np.load(file), inside, atol=2e-3)
    told = {e.get("made") for e in read_json_lines(party.folder / "ledger.jsonl")}
    assert "3 subclasses that the teacher learnt with its labels" in told


def test_what_is_learnt_beside_a_student_is_not_kept(tmp_path):
    names = ["embedding-distillation", "fitnet", "vid", "rkd", "crd"]
    scenario = lelp(tmp_path, method=[{"name": n, "label": n} for n in ["kd", *names]])
    folder = run_scenario(scenario).seeds[0]
    assert set(read_json(folder.result)["methods"]) == {"kd", *names}
    asked = {e["request"] for e in folder.records("ledger") if e["kind"] == "embeddings"}
    assert len({request.split("/")[1] for request in asked}) == 1
    plain = classifier.load(folder.student("kd")).module.state_dict()
    for name in names:
        known = classifier.load(folder.student(name)).module.state_dict()
        assert {k: v.shape for k, v in known.items()} == {k: v.shape for k, v in plain.items()}

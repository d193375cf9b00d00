"""What goes wrong in a federation of topic models, and what goes on: kills, faults, rounds."""

from __future__ import annotations

import pytest

import clients.topics
from clients.app import app
from fedkd.errors import ReleaseError, ScenarioError
from fedkd.files import read_json, read_rows
from fedkd.models.topic_files import load_topic_model
from fedkd.run.engine import run_scenario
from fedkd.run.grid import InlineGrid
from fedkd.run.prepare import prepare_run
from fedkd.run.wire import decode_content
from server.topics import run_topics
from tests.topics.small_run import small_topics


def test_a_killed_run_goes_on_to_the_same_student(tmp_path):
    whole = run_scenario(small_topics(tmp_path / "whole")).seeds[0]
    scenario = small_topics(tmp_path / "killed")
    folder = prepare_run(scenario, 0)

    class Killed(BaseException):
        pass

    def kill(direction, message, data):
        answered = message.metadata.message_type == "query.topics" and direction == "up"
        if answered and len(list(folder.intake.rglob("*.npz"))) > 6:
            raise Killed

    config = {"seed": 0, "run-folder": str(folder.root)}
    with pytest.raises(Killed):
        run_topics(InlineGrid(app, 3, config, kill), scenario, 0, folder)
    trained = [p / "topics" for p in folder.parties.iterdir()]
    before = [f.stat().st_mtime_ns for t in trained for f in t.rglob("figures.json")]
    resumed = run_scenario(scenario).seeds[0]
    assert [f.stat().st_mtime_ns for t in trained for f in t.rglob("figures.json")] == before
    hashes = [read_json(f.result)["hashes"] for f in (whole, resumed)]
    assert hashes[0] == hashes[1]


def test_a_student_of_documents_alone_asks_nobody(tmp_path):
    methods = [{"name": "topics", "temperature": 1.0}, {"name": "topics", "alpha": 0.0}]
    folder = run_scenario(small_topics(tmp_path, method=methods)).seeds[0]
    places = {file.name.rsplit("-", 1)[0] for file in folder.intake.glob("*/round-*.npz")}
    assert places == {"round-0-bn-1"}
    sides = read_json(folder.root / "topics.json")["matches"]
    assert set(sides["student-alone"]) == set(sides["topics/size"])


def test_the_same_question_twice_gets_the_same_bytes_and_one_ledger_line(tmp_path):
    folder = run_scenario(small_topics(tmp_path)).seeds[0]
    from clients.party import open_party

    party = clients.topics.topic_party(open_party(folder.party(0)))
    known = read_json(folder.topics_sealed(0))
    from fedkd.release import fingerprint

    texts = read_rows(folder.public / "transfer.jsonl")["text"]
    fields = {
        "transfer_id": fingerprint(texts), "vocabulary_id": known["vocabulary_id"], "round": 0,
        "temperature": 2.0, "soft_label": "bn", "start": 0, "stop": 50,
    }  # fmt: skip
    first, second = (party.answer(fields) for _ in range(2))
    assert all((first.arrays[k] == second.arrays[k]).all() for k in first.arrays)
    for wrong, says in (
        ({"start": 5, "stop": 5}, "rows"),
        ({"transfer_id": "0" * 64}, "transfer_id"),
        ({"vocabulary_id": "f" * 64}, "train.topics"),
        ({"vocabulary_id": "../x"}, "digest"),
        ({"soft_label": "other", "temperature": 9.0}, "soft_label"),
    ):
        with pytest.raises(ReleaseError, match=says):
            party.answer(fields | wrong)
    words = "\n".join(known["vocabulary"])
    with pytest.raises(ReleaseError, match="vocabulary_id"):
        party.train({"vocabulary": words, "vocabulary_id": "0" * 64, "round": 0})


def test_spoilt_answers_are_rejected_and_asked_for_again(tmp_path):
    honest = run_scenario(small_topics(tmp_path / "honest")).seeds[0]
    faults = {"rate": 0.4, "seed": 3, "kinds": ["nan", "corrupt", "replay", "drop", "oversize"]}
    run = {"out": str(tmp_path / "faulty"), "block_rows": 150, "backoff": 0.0, "retries": 8}
    faulty = run_scenario(small_topics(tmp_path, faults=faults, run=run)).seeds[0]
    assert any(e["event"] == "unusable reply" for e in faulty.records("events"))
    digests = [read_json(f.result)["hashes"]["intake"] for f in (honest, faulty)]
    assert digests[0] == digests[1]


def test_several_rounds_send_the_students_topics_back(tmp_path):
    seen = []

    def tap(direction, message, data):
        if direction == "down" and message.metadata.message_type == "train.topics":
            seen.append("beta" in decode_content(data).config_records["request"])

    folder = run_scenario(small_topics(tmp_path, topics={"rounds": 2}), tap=tap).seeds[0]
    assert seen == [False] * 3 + [True] * 3
    assert (folder.root / "rounds" / "0").is_dir()


def test_a_run_killed_in_its_second_round_goes_on_to_the_same_student(tmp_path):
    topics = {"rounds": 2}
    whole = run_scenario(small_topics(tmp_path / "whole", topics=dict(topics))).seeds[0]
    scenario = small_topics(tmp_path / "killed", topics=dict(topics))
    folder = prepare_run(scenario, 0)

    class Killed(BaseException):
        pass

    def kill(direction, message, data):
        answered = direction == "up" and message.metadata.message_type == "query.topics"
        if answered and folder.topics_sealed(0).is_file():
            raise Killed

    config = {"seed": 0, "run-folder": str(folder.root)}
    with pytest.raises(Killed):
        run_topics(InlineGrid(app, 3, config, kill), scenario, 0, folder)
    assert not folder.topics_sealed(1).is_file()
    resumed = run_scenario(scenario).seeds[0]
    results = [read_json(f.result) for f in (whole, resumed)]
    assert results[0]["hashes"] == results[1]["hashes"] and results[0]["rounds"] == 2
    assert results[0]["methods"] == results[1]["methods"]
    assert "<dt>Rounds</dt><dd>2</dd>" in (folder.root.parent / "report.html").read_text("utf-8")


def test_another_form_and_a_delivered_public_set(tmp_path):
    data = {"source": "generated:topics", "transfer": {"rows": 200, "delivery": "server"}}
    scenario = small_topics(tmp_path, data=data, topics={"upload": {"form": "dense", "samples": 1}})
    folder = run_scenario(scenario).seeds[0]
    arrays = next(e for e in folder.records("ledger") if e["kind"] == "topics")["arrays"]
    assert set(arrays) == {"mean", "log_variance", "words"}


def test_one_party_with_every_document_is_the_paper(tmp_path):
    topics = {"whole": True, "vocabulary": {"how": "union", "anonymous": 1}}
    method = [{"name": "topics", "latent": 1.0, "standardise": False, "hidden": "vocabulary"}]
    data = {"source": "generated:topics"}
    parties = {"count": 1}
    scenario = small_topics(tmp_path, data=data, parties=parties, topics=topics, method=method)
    folder = run_scenario(scenario).seeds[0]
    result = read_json(folder.result)
    assert result["transfer_rows"] == result["parties"]["party-0"]["rows"] == 2000
    network, words, _ = load_topic_model(folder.root / "student")
    assert network.shape.hidden == (len(words),)
    with pytest.raises(ScenarioError, match=r"parties\.count=2"):
        run_scenario(small_topics(tmp_path / "two", data=data, parties={"count": 2}, topics=topics))


def test_the_inline_grid_is_not_the_only_one(tmp_path):
    pytest.importorskip("ray")
    scenario = small_topics(tmp_path / "inline")
    inline = run_scenario(scenario).seeds[0]
    run = scenario.run.model_dump() | {"out": str(tmp_path / "ray"), "backend": "ray"}
    ray = run_scenario(small_topics(tmp_path, run=run)).seeds[0]
    hashes = [read_json(f.result)["hashes"] for f in (inline, ray)]
    assert hashes[0] == hashes[1]

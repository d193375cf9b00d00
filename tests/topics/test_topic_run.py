"""A federation of topic models from end to end: what crosses, what is kept, what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Message

import clients.topics
from clients.app import app
from fedkd.errors import ReleaseError, ScenarioError
from fedkd.files import read_json, read_json_lines, read_rows
from fedkd.models.topic_files import load_topic_model
from fedkd.run.engine import run_scenario
from fedkd.run.grid import InlineGrid
from fedkd.run.prepare import prepare_run
from fedkd.run.wire import decode_content
from server.topics import run_topics
from tests.topics.small_run import small_topics

ALLOWED = {
    "query.describe": {"description"},
    "query.vocabulary": {"release.arrays", "release.facts"},
    "train.topics": {"metrics"},
    "query.topics": {"release.arrays", "release.facts"},
    "evaluate.topics": {"metrics"},
}
ARRAYS = {
    ("statistic", frozenset({"words", "frequencies"})),
    ("statistic", frozenset({"background", "top_words", "mass"})),
    ("topics", frozenset({"mean", "log_variance", "ids", "codes", "range"})),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    seen = []

    def tap(direction: str, message: Message, data: bytes) -> None:
        seen.append((direction, message.metadata.message_type, data))

    methods = [
        {"name": "topics"},
        {"name": "topics", "alpha": 0.0},
        {
            "name": "topics",
            "latent": 0.1,
            "align": "student",
            "refresh": 1,
            "cost": {"places": 1.0},
        },
        {
            "name": "topics",
            "latent": 1.0,
            "emphasis": 1.0,
            "proportions": 0.1,
            "align": "unbalanced",
            "cost": {"places": 1.0},
        },
        {"name": "topics", "control": "uniform"},
        {"name": "topics", "control": "shuffled"},
    ]
    companions = {"companions": ["prodlda", "student-pooled"]}
    scenario = small_topics(tmp_path_factory.mktemp("runs"), method=methods, topics=companions)
    return run_scenario(scenario, tap=tap), seen


def test_only_the_upload_schema_crosses(finished):
    done, seen = finished
    kinds = set()
    for direction, kind, data in seen:
        if direction == "down":
            continue
        content = decode_content(data)
        assert set(content) == ALLOWED[kind], kind
        if "release.arrays" in content:
            facts = content.config_records["release.facts"]
            names = frozenset(content.array_records["release.arrays"])
            assert (facts["kind"], names) in ARRAYS
            kinds.add(names)
    assert len(kinds) == 3
    private = {
        text
        for party in done.seeds[0].parties.iterdir()
        for text in read_rows(party / "private.jsonl")["text"]
    }
    for direction, _, data in seen:
        if direction == "up":
            assert not any(text.encode() in data for text in private)


def test_rare_private_words_stay_at_home(finished):
    done, seen = finished
    for party in done.seeds[0].parties.iterdir():
        texts = read_rows(party / "private.jsonl")["text"]
        counts = {w: sum(w in t.split() for t in texts) for t in texts for w in t.split()}
        told = [
            data
            for direction, kind, data in seen
            if direction == "up" and kind == "query.vocabulary"
        ]
        assert told and all(counts[w] >= 5 for w in _told(done, party))


def _told(done, party):
    name = read_json(party / "party.json")["name"]
    with np.load(done.seeds[0].intake / name / "words.npz") as arrays:
        return arrays["words"].tobytes().decode().split("\n")


def test_everybody_has_one_vocabulary_and_the_ledgers_agree(finished):
    done, _ = finished
    folder = done.seeds[0]
    result = read_json(folder.result)
    for party in folder.parties.iterdir():
        homes = list((party / "topics").iterdir())
        assert [h.name for h in homes] == [f"{result['hashes']['vocabulary'][:12]}-0"]
    server = {(e["party"], e["request"], e["sha256"]) for e in folder.records("ledger")}
    own = {
        (e["party"], e["request"], e["sha256"])
        for party in folder.parties.iterdir()
        for e in read_json_lines(party / "ledger.jsonl")
    }
    assert server == own
    # Each of three parties describes itself, tells words, trains, answers in three parts, measures.
    assert len(own) == 3 * 7


def test_the_result_and_the_report_are_whole(finished):
    done, _ = finished
    folder = done.seeds[0]
    result = read_json(folder.result)
    assert set(result["methods"]) == {
        "topics/size", "student-alone", "topics/size/student/w2-0.1",
        "topics/size/unbalanced/w2-1", "topics/size/uniform", "topics/size/shuffled",
    }  # fmt: skip
    assert {"prodlda", "student-pooled", "teacher/party-0"} <= set(result["references"])
    for name, one in (result["methods"] | result["references"]).items():
        assert -1 <= one["npmi"] <= 1 and one["perplexity"] > 1, name
        assert len(one["topics"]) == len(one["npmi_by_topic"])
    assert all(0 < p["upload_error"]["upload_kl"] < 1 for p in result["parties"].values())
    assert "true_topics" in result["methods"]["topics/size"]
    counts = result["methods"]["topics/size"]["parameters"]
    public = read_rows(folder.public / "transfer.jsonl")["text"]
    # LSA of width 16 holds a weight and 16 numbers for each word of the public documents.
    extra = 17 * len({word for text in public for word in text.split()})
    assert counts["with_encoder"] == counts["built"] + extra
    prodlda = result["references"]["prodlda"]["parameters"]
    assert prodlda["with_encoder"] == prodlda["built"]
    assert f"{counts['with_encoder']:,} with its encoder" in done.report.read_text("utf-8")
    assert len(set(result["hashes"]["student"].values())) == len(result["methods"])
    losses = result["methods"]["topics/size/unbalanced/w2-1"]["loss"]
    assert set(losses) == {"reconstruction", "kl", "cross_entropy", "transport", "proportions"}
    assert "transport" in result["methods"]["topics/size/student/w2-0.1"]["loss"]
    assert done.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    summary = read_json(done.folder / "summary.json")
    assert summary["baseline"] == "topics/size"
    _, words, encoder = load_topic_model(folder.root / "student")
    assert len(words) == result["words"] and encoder == "lsa:16"
    before = (folder.result.stat().st_mtime_ns, read_json(folder.result))
    again = run_scenario(parse_scenario_of(folder))
    assert (folder.result.stat().st_mtime_ns, read_json(again.seeds[0].result)) == before


def parse_scenario_of(folder):
    from fedkd.scenario_file import load_scenario

    return load_scenario(folder.scenario)


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

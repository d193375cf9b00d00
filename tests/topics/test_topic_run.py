"""A federation of topic models from end to end: what crosses, what is kept, what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Message

from fedkd.files import read_json, read_json_lines, read_rows
from fedkd.models.topic_files import load_topic_model
from fedkd.report.topic_run import print_topic_table
from fedkd.run.engine import run_scenario
from fedkd.run.wire import decode_content
from fedkd.scenario_file import load_scenario
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


def test_the_result_and_the_report_are_whole(finished, capsys):
    done, _ = finished
    folder = done.seeds[0]
    result = read_json(folder.result)
    print_topic_table(done.folder)
    printed = capsys.readouterr().out
    assert all(f"\n{name}  " in printed for name in result["methods"] | result["references"])
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
    again = run_scenario(load_scenario(folder.scenario))
    assert (folder.result.stat().st_mtime_ns, read_json(again.seeds[0].result)) == before

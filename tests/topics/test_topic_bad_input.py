"""What cannot be: clear errors before any work, or a party left out with the reason."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedkd.errors import FedkdError, QuorumError, ScenarioError
from fedkd.files import read_json, read_rows
from fedkd.run.engine import run_scenario
from fedkd.run.prepare import prepare_run
from fedkd.run.topic_plan import topic_plan_lines
from tests.topics.small_run import small_topics


def test_a_party_that_cannot_take_part_is_left_out_with_the_reason(tmp_path):
    override = [{"parties": [1], "topics": 5000}]
    teacher = {"topics": 5, "hidden": [12], "epochs": 1, "override": override}
    scenario = small_topics(
        tmp_path,
        topics={"teacher": teacher},
        parties={"count": 3, "quorum": 2, "partition": {"by": "iid"}},
    )
    folder = run_scenario(scenario).seeds[0]
    reasons = [e["reason"] for e in folder.records("events") if e["event"] == "unusable reply"]
    assert reasons and all("topics=5000" in r for r in reasons)
    result = read_json(folder.result)
    assert "teacher/party-1" not in result["references"]
    assert "teacher/party-0" in result["references"]
    strict = small_topics(tmp_path / "strict", topics={"teacher": teacher})
    with pytest.raises(QuorumError, match="train"):
        run_scenario(strict)


def test_a_party_whose_words_are_others_is_named_and_left_out(tmp_path):
    scenario = small_topics(tmp_path, parties={"count": 3, "quorum": 2, "partition": {"by": "iid"}})
    folder = prepare_run(scenario, 0)
    private = folder.party(2) / "private.jsonl"
    rows = read_rows(private)
    strange = [{"text": f"zz{i} yy{i}", "label": label} for i, label in enumerate(rows["label"])]
    private.write_text("".join(json.dumps(r) + "\n" for r in strange), encoding="utf-8")
    run_scenario(scenario)
    result = read_json(folder.result)
    assert any("party-2 tells no word" in warning for warning in result["warnings"])
    assert "teacher/party-2" not in result["references"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": [{"name": "topics", "alpha": 1.2}]}, "alpha=1.2"),
        ({"method": [{"name": "topics", "temperature": 0}]}, "temperature=0"),
        ({"method": [{"name": "knot"}]}, "be 'topics'"),
        ({"method": [{"name": "topics"}, {"name": "topics"}]}, "differ"),
        ({"method": [{"name": "topics", "teh": 1}]}, "teh"),
        ({"topics": {"student": {"topics": 1}}}, "topics=1"),
        ({"data": {"source": "generated:topics", "transfer": {"rows": 5000}}}, "public documents"),
        ({"data": {"source": ["a", "b"]}}, "one topic corpus"),
        ({"privacy": {"mechanism": {"name": "rounding", "decimals": 2}}}, r"privacy\.mechanism"),
    ],
)
def test_impossible_scenarios_say_so_before_any_work(tmp_path, changes, says):
    with pytest.raises(ScenarioError, match=says):
        run_scenario(small_topics(tmp_path, **changes))


def test_checking_finds_what_can_be_known_before(tmp_path):
    override = [{"parties": [1], "topics": 700}]
    teacher = {"topics": 5, "hidden": [12], "override": override}
    parties = {"count": 3, "quorum": 2, "partition": {"by": "iid"}}
    lines = topic_plan_lines(small_topics(tmp_path, topics={"teacher": teacher}, parties=parties))
    told = [line for line in lines if "party-1 would be left out" in line]
    assert len(told) == 1 and "topics=700" in told[0]
    with pytest.raises(QuorumError, match="party-1 would be left out"):
        topic_plan_lines(small_topics(tmp_path, topics={"teacher": teacher}))
    for student, says in ((5000, "number of words"), (150, "public documents=100")):
        data = {"source": "generated:topics", "transfer": {"rows": 100}}
        with pytest.raises(FedkdError, match=says):
            topic_plan_lines(
                small_topics(tmp_path, data=data, topics={"student": {"topics": student}})
            )


def test_too_few_agreed_words_is_an_error(tmp_path):
    vocabulary = {"least": 5, "anonymous": 5, "size": 4}
    with pytest.raises(QuorumError, match="agreed words=4"):
        run_scenario(small_topics(tmp_path, topics={"vocabulary": vocabulary}))


@pytest.mark.parametrize(
    ("shape", "says"), [((3, 16), "private-"), ((None, 8), "width of the text vectors=16")]
)
def test_vectors_of_another_number_or_dimension_are_refused(tmp_path, shape, says):
    scenario = small_topics(tmp_path, parties={"count": 3, "quorum": 2, "partition": {"by": "iid"}})
    folder = prepare_run(scenario, 0)
    file = next(folder.party(0).glob("private-*.npy"))
    rows = len(np.load(file)) if shape[0] is None else shape[0]
    np.save(file, np.zeros((rows, shape[1]), np.float16))
    run_scenario(scenario)
    events = [e["reason"] for e in folder.records("events") if e["event"] == "unusable reply"]
    assert any("vectors" in reason and says in reason for reason in events), events
    assert "teacher/party-0" not in read_json(folder.result)["references"]

"""Deployments of topic models: what is refused, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedkd.deploy.init import init_deployment
from fedkd.deploy.layout import lay_out_party, lay_out_server
from fedkd.errors import DataError, DeployError, FedkdError, ModelError, PolicyError, ScenarioError
from fedkd.run.folder import RunFolder
from fedkd.run.topic_plan import topic_plan_lines
from tests.deploy.topic_deployment import NAMES, deployment_of, home, scenario_for, set_data
from tests.system.small import write_scenario


@pytest.mark.parametrize(
    ("lines", "settings", "told"),
    [
        (["alpha beta gamma delta epsilon zeta"] * 4, "", "number of private documents, 4"),
        (["alpha beta"] * 9, "", "number of different words in private documents, 2"),
        (["", " "], "", "hold text"),
        (["alpha beta gamma delta epsilon"] * 9, 'encoder = "lsa:900"', "dimension of lsa=900"),
        (["alpha beta gamma delta epsilon"] * 9, 'encoder = "no/such"', "no/such"),
    ],
)
def test_what_cannot_be_learnt_from_is_told_at_once(
    with_topics: Path, lines: list[str], settings: str, told: str
) -> None:
    party = with_topics / "parties" / "party-0"
    (party / "own.csv").write_text("text,more\n" + "".join(f"{line},1\n" for line in lines))
    set_data(party, "own.csv")
    file = party / "party.toml"
    file.write_text(f"{file.read_text()}\n{settings}\n")
    with pytest.raises((DataError, ModelError), match=told):
        lay_out_party(party)
    assert not home(party).exists()


def test_a_table_of_the_other_kind_and_an_unfit_policy_are_refused(with_topics: Path) -> None:
    party = with_topics / "parties" / "party-0"
    (party / "policy.toml").write_text("epsilon = 3\nmechanism = { name = 'gaussian' }\n")
    with pytest.raises(PolicyError, match="be 'none' for topic models"):
        lay_out_party(party)
    (party / "policy.toml").write_text("")
    file = party / "party.toml"
    before = file.read_text()
    file.write_text(f'{before}\n[teacher]\nmodel = "bow"\n')
    with pytest.raises(DeployError, match=r"party\.toml=.\[teacher\]. to be \[topics\]"):
        lay_out_party(party)
    file.write_text(before)
    (party / "scenario.toml").write_text((party / "scenario.toml").read_text() + "\nbroken")
    with pytest.raises(ScenarioError):
        lay_out_party(party)


def test_documents_that_changed_after_training_are_refused(
    with_topics: Path, dealt: RunFolder
) -> None:
    party = with_topics / "parties" / "party-0"
    lay_out_party(party)
    trained = home(party) / "topics" / "0123456789ab-0" / "figures.json"
    trained.parent.mkdir(parents=True)
    trained.write_text("{}")
    lay_out_party(party)
    file = party / "party.toml"
    before = file.read_text()
    file.write_text(before.replace("topics = 5", "topics = 6"))
    with pytest.raises(DataError, match=r"changed after the teacher was trained.*topics\.json"):
        lay_out_party(party)
    file.write_text(before)
    set_data(party, str(dealt.party(1) / "private.jsonl"))
    with pytest.raises(DataError, match=r"changed after the teacher was trained.*private\.jsonl"):
        lay_out_party(party)


@pytest.mark.parametrize(
    ("topics", "method", "told"),
    [
        ({"whole": True}, {"name": "topics"}, "topics.whole=True to be false in a deployment"),
        ({}, {"name": "knot"}, "be 'topics' beside"),
    ],
)
def test_scenarios_that_cannot_be_deployed_are_told(
    tmp_path: Path, topics: dict[str, Any], method: dict[str, Any], told: str
) -> None:
    file = write_scenario(
        tmp_path / "s.toml", scenario_for(tmp_path / "runs", topics=topics, method=[method])
    )
    with pytest.raises(FedkdError, match=told):
        init_deployment(tmp_path / "made", NAMES, "localhost", 8443, file)
    assert not (tmp_path / "made").exists()


def test_the_plan_says_what_real_machines_would_do(tmp_path: Path) -> None:
    run = {"out": str(tmp_path), "backend": "remote"}
    lines = topic_plan_lines(scenario_for(tmp_path, run=run, topics={"companions": ["lda"]}))
    assert "engine remote: every party on its own machine" in lines
    assert any(line.startswith("3 parties with documents of their own") for line in lines)
    assert not any(line.startswith("party-0: ") for line in lines)
    assert any(line.startswith("warning: companions (lda)") for line in lines)
    with pytest.raises(DeployError, match=r"topics\.whole"):
        topic_plan_lines(scenario_for(tmp_path, run=run, topics={"whole": True}))


def test_a_student_with_more_topics_than_public_documents_is_told(tmp_path: Path) -> None:
    data = {"source": "generated:topics", "transfer": {"rows": 40}}
    topics = {"student": {"topics": 41}}
    folder = deployment_of(tmp_path, scenario_for(tmp_path, data=data, topics=topics), None)
    with pytest.raises(DataError, match=r"topics\.student\.topics=41"):
        lay_out_server(folder / "server")

"""Deployments of topic models: what each side lays out, refuses, and answers with."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.app import app
from fedkd.deploy.init import init_deployment
from fedkd.deploy.layout import agreed_scenario, lay_out_party, lay_out_server
from fedkd.deploy.settings import read_party
from fedkd.errors import DataError, DeployError, FedkdError, ModelError, PolicyError, ScenarioError
from fedkd.files import read_json, read_rows
from fedkd.report.topic_run import write_topic_report
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.grid import InlineGrid
from fedkd.run.prepare import prepare_run
from fedkd.run.topic_plan import topic_plan_lines
from fedkd.scenario import Scenario
from fedkd.scenario_file import parse_scenario
from fedkd.topics.card import read_topic_card
from server.topics import run_topics
from tests.system.small import write_scenario
from tests.topics.small_run import small_topics

NAMES = ("party-0", "party-1", "party-2")
UNLIKE = {"topics": 5, "hidden": [12], "epochs": 2,
          "override": [{"parties": ["party-1"], "topics": 4, "inputs": "bag"}]}  # fmt: skip


def scenario_for(out: Path, **changes: Any) -> Scenario:
    topics = {"teacher": UNLIKE} | changes.pop("topics", {})
    return small_topics(out, topics=topics, **changes)


def deployment_of(base: Path, scenario: Scenario, private: RunFolder | None) -> Path:
    """A deployment whose parties own the documents that a simulation has dealt to them."""
    folder = base / "made"
    init_deployment(folder, NAMES, "localhost", 8443, write_scenario(base / "small.toml", scenario))
    for index, name in enumerate(NAMES):
        if private is not None:
            set_data(folder / "parties" / name, str(private.party(index) / "private.jsonl"))
    return folder


def set_data(party: Path, path: str, more: str = "") -> None:
    lines = (party / "party.toml").read_text().splitlines()
    new = [f'path = "{path}"\n{more}' if one.startswith("path =") else one for one in lines]
    (party / "party.toml").write_text("\n".join(new))


def home(folder: Path) -> Path:
    return folder / "state" / agreed_scenario(folder).config_hash / "0"


def at_operators(folder: Path) -> ClientApp:
    """The parties' app as their own nodes run it, each with its operator's folder."""

    class OwnFolders(ClientApp):
        def __call__(self, message: Message, context: Context) -> Message:
            name = NAMES[int(str(context.node_config["partition-id"]))]
            own = {"data-dir": str(folder / "parties" / name / "state")}
            return app(message, Context(1, context.node_id, own, RecordDict(), context.run_config))

    return OwnFolders()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return prepare_run(scenario_for(tmp_path_factory.mktemp("simulated")), 0)


@pytest.fixture
def deployment(tmp_path: Path, simulated: RunFolder) -> Path:
    return deployment_of(tmp_path, scenario_for(tmp_path / "runs"), simulated)


def test_party_file_holds_the_topic_model_of_its_party(deployment: Path) -> None:
    for name, topics in zip(NAMES, (5, 4, 5), strict=True):
        file = deployment / "parties" / name / "party.toml"
        values = tomllib.loads(file.read_text())
        assert "teacher" not in values and "label =" not in file.read_text()
        settings = read_party(file.parent)
        assert settings.topics is not None and settings.topics.topics == topics
        assert settings.topics.hidden == (12,) and settings.topics.epochs == 2


@pytest.mark.parametrize("delivery", ["local", "server"])
def test_apart_they_answer_with_the_bytes_of_the_simulation(tmp_path: Path, delivery: str) -> None:
    data = {"source": "generated:topics", "transfer": {"rows": 200, "delivery": delivery}}
    methods = [
        {"name": "topics"},
        {"name": "topics", "latent": 0.1, "align": "student", "cost": {"places": 1.0}},
    ]
    scenario = scenario_for(
        tmp_path / "runs", data=data, method=methods, topics={"companions": ["lda"]}
    )
    inline = run_scenario(scenario).seeds[0]
    folder = deployment_of(tmp_path, scenario, inline)
    for name in NAMES:
        lay_out_party(folder / "parties" / name)
    notes = lay_out_server(folder / "server")
    assert any("companions (lda)" in note for note in notes)
    agreed = agreed_scenario(folder / "server")
    run = RunFolder(folder / "server" / "work" / agreed.folder(0))
    config = {"seed": 0, "run-folder": str(run.root)}
    run_topics(InlineGrid(at_operators(folder), 3, config, None), agreed, 0, run)
    result, other = read_json(run.result), read_json(inline.result)
    assert result["hashes"] == other["hashes"]
    answers = sorted(p.relative_to(inline.intake) for p in inline.intake.rglob("*.npz"))
    assert answers
    for answer in answers:
        assert arrays(run.intake / answer) == arrays(inline.intake / answer)
    one, two = (found["methods"]["topics/size"] for found in (result, other))
    assert one["true_topics"] == two["true_topics"]
    # The draws behind it go by the order of the held-out documents.
    assert one["perplexity"] == pytest.approx(two["perplexity"], rel=0.01)
    assert "lda" not in result["references"] and "companions (lda)" in str(result["warnings"])
    assert write_topic_report(run.root.parent).is_file()
    trained = sorted((folder / "parties").glob("*/state/*/0/topics/*/figures.json"))
    before = [file.stat().st_mtime_ns for file in trained]
    for file in (run.topics_sealed(0), run.root / "DONE", run.intake / "party-1" / answers[0].name):
        file.unlink(missing_ok=True)
    run_topics(InlineGrid(at_operators(folder), 3, config, None), agreed, 0, run)
    assert read_json(run.result)["hashes"] == other["hashes"]
    assert len(before) == 3 and [file.stat().st_mtime_ns for file in trained] == before
    assert not list((folder / "server").rglob("private.jsonl"))


def arrays(file: Path) -> dict[str, bytes]:
    with np.load(file, allow_pickle=False) as found:
        return {name: found[name].tobytes() for name in found}


def test_both_sides_hold_the_public_documents_and_the_server_no_others(
    deployment: Path, simulated: RunFolder
) -> None:
    lay_out_server(deployment / "server")
    agreed = agreed_scenario(deployment / "server")
    run = RunFolder(deployment / "server" / "work" / agreed.folder(0))
    public = read_rows(run.public / "transfer.jsonl")["text"]
    assert public == read_rows(simulated.public / "transfer.jsonl")["text"]
    test = read_rows(run.public / "test.jsonl")["text"]
    assert sorted(test) == sorted(read_rows(simulated.public / "test.jsonl")["text"])
    assert read_rows(run.root / "reference.jsonl")["text"] == [*public, *test]
    held = set(public) | set(test)
    for index, name in enumerate(NAMES):
        party = deployment / "parties" / name
        lay_out_party(party)
        own = home(party)
        assert read_rows(own / "texts" / "transfer.jsonl")["text"] == public
        private = read_rows(own / "private.jsonl")["text"]
        assert private == read_rows(simulated.party(index) / "private.jsonl")["text"]
        assert not held & set(private)
        card = read_topic_card(own)
        assert card == read_topic_card(simulated.party(index))
    with np.load(run.truth) as truth:
        assert set(truth["party"].tolist()) == {-1} and len(truth["test"]) == len(test)


def test_public_and_empty_documents_are_dropped_and_counted(
    deployment: Path, simulated: RunFolder
) -> None:
    party = deployment / "parties" / "party-0"
    private = read_rows(simulated.party(0) / "private.jsonl")["text"]
    public = read_rows(simulated.public / "transfer.jsonl")["text"]
    with (party / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate([*private, public[0], f"  {public[1]} unheard-of"]))
    set_data(party, "mine.csv", 'test = "mine.csv"')
    notes = lay_out_party(party)
    assert sum("2 documents of mine.csv have the words of a public one" in n for n in notes) == 2
    assert read_rows(home(party) / "private.jsonl") == {"text": private}
    assert read_rows(home(party) / "test.jsonl") == {"text": private}


def test_an_octis_folder_is_a_partys_own(deployment: Path) -> None:
    party = deployment / "parties" / "party-0"
    (party / "octis").mkdir()
    words = [f"word{number}" for number in range(12)]
    lines = [f"{' '.join(words)}\ttrain\tx", f"{words[0]}\tval\tx"] * 5
    lines += [f"{words[3]} {words[1]} unknown\ttest\tx"]
    (party / "octis" / "corpus.tsv").write_text("\n".join(lines) + "\n")
    (party / "octis" / "vocabulary.txt").write_text("\n".join(words) + "\n")
    set_data(party, "octis", 'test = "octis"')
    lay_out_party(party)
    assert len(read_rows(home(party) / "private.jsonl")["text"]) == 10
    assert read_rows(home(party) / "test.jsonl")["text"] == ["word3 word1"]


def test_raw_texts_become_words_as_the_public_ones_do(tmp_path: Path) -> None:
    subjects = ("Trains", "Boats", "Cafés", "Gardens", "Storms", "Songs")
    moods = ("fast", "slow", "loud", "green", "wild", "sad")
    rows = [
        f"The {subject} of {number} are, {mood}!"
        for number in range(40)
        for subject, mood in zip(subjects, moods, strict=True)
    ]
    with (tmp_path / "public.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], *([row, "a"] for row in rows)])
    scenario = parse_scenario(
        {
            "name": "raw",
            "data": {"source": str(tmp_path / "public.csv"), "test": 0.2},
            "parties": {"count": 3},
            "topics": {"encoder": "lsa:3", "teacher": {"topics": 2}, "student": {"topics": 2}},
            "method": [{"name": "topics"}],
        }
    )
    folder = deployment_of(tmp_path, scenario, None)
    party = folder / "parties" / "party-0"
    (party / "own.csv").write_text(
        "text\nThe CAFÉS and a Zeppelin\n42!\nThe zeppelin; loud\nLoud?\n"
    )
    set_data(party, "own.csv")
    notes = lay_out_party(party)
    assert any("1 rows of own.csv have no word: rows 2" in note for note in notes)
    texts = ["cafes zeppelin", "zeppelin loud", "loud"]
    assert read_rows(home(party) / "private.jsonl")["text"] == texts


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
    deployment: Path, lines: list[str], settings: str, told: str
) -> None:
    party = deployment / "parties" / "party-0"
    (party / "own.csv").write_text("text,more\n" + "".join(f"{line},1\n" for line in lines))
    set_data(party, "own.csv")
    file = party / "party.toml"
    file.write_text(f"{file.read_text()}\n{settings}\n")
    with pytest.raises((DataError, ModelError), match=told):
        lay_out_party(party)
    assert not home(party).exists()


def test_a_table_of_the_other_kind_and_an_unfit_policy_are_refused(deployment: Path) -> None:
    party = deployment / "parties" / "party-0"
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
    deployment: Path, simulated: RunFolder
) -> None:
    party = deployment / "parties" / "party-0"
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
    set_data(party, str(simulated.party(1) / "private.jsonl"))
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

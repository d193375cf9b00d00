"""Deployments of topic models: what each side lays out and answers with."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.app import app
from fedkd.deploy.layout import agreed_scenario, lay_out_party, lay_out_server
from fedkd.deploy.settings import read_party
from fedkd.files import read_json, read_rows
from fedkd.report.topic_run import write_topic_report
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.grid import InlineGrid
from fedkd.scenario_file import parse_scenario
from fedkd.topics.card import read_topic_card
from server.topics import run_topics
from tests.deploy.topic_deployment import NAMES, deployment_of, home, scenario_for, set_data


def at_operators(folder: Path) -> ClientApp:
    """The parties' app as their own nodes run it, each with its operator's folder."""

    class OwnFolders(ClientApp):
        def __call__(self, message: Message, context: Context) -> Message:
            name = NAMES[int(str(context.node_config["partition-id"]))]
            own = {"data-dir": str(folder / "parties" / name / "state")}
            return app(message, Context(1, context.node_id, own, RecordDict(), context.run_config))

    return OwnFolders()


def test_party_file_holds_the_topic_model_of_its_party(with_topics: Path) -> None:
    for name, topics in zip(NAMES, (5, 4, 5), strict=True):
        file = with_topics / "parties" / name / "party.toml"
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
    with_topics: Path, dealt: RunFolder
) -> None:
    lay_out_server(with_topics / "server")
    agreed = agreed_scenario(with_topics / "server")
    run = RunFolder(with_topics / "server" / "work" / agreed.folder(0))
    public = read_rows(run.public / "transfer.jsonl")["text"]
    assert public == read_rows(dealt.public / "transfer.jsonl")["text"]
    test = read_rows(run.public / "test.jsonl")["text"]
    assert sorted(test) == sorted(read_rows(dealt.public / "test.jsonl")["text"])
    assert read_rows(run.root / "reference.jsonl")["text"] == [*public, *test]
    held = set(public) | set(test)
    for index, name in enumerate(NAMES):
        party = with_topics / "parties" / name
        lay_out_party(party)
        own = home(party)
        assert read_rows(own / "texts" / "transfer.jsonl")["text"] == public
        private = read_rows(own / "private.jsonl")["text"]
        assert private == read_rows(dealt.party(index) / "private.jsonl")["text"]
        assert not held & set(private)
        card = read_topic_card(own)
        assert card == read_topic_card(dealt.party(index))
    with np.load(run.truth) as truth:
        assert set(truth["party"].tolist()) == {-1} and len(truth["test"]) == len(test)


def test_documents_that_repeat_public_ones_are_counted_and_stay(
    with_topics: Path, dealt: RunFolder
) -> None:
    party = with_topics / "parties" / "party-0"
    private = read_rows(dealt.party(0) / "private.jsonl")["text"]
    public = read_rows(dealt.public / "transfer.jsonl")["text"]
    with (party / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate([*private, public[0], f"  {public[1]} unheard-of"]))
    set_data(party, "mine.csv", 'test = "mine.csv"')
    notes = lay_out_party(party)
    assert sum("2 documents of mine.csv have the words of a public one" in n for n in notes) == 2
    kept = [*private, public[0], f"{public[1]} unheard-of"]
    assert read_rows(home(party) / "private.jsonl")["text"] == kept
    assert read_rows(home(party) / "test.jsonl")["text"] == kept


def test_an_octis_folder_is_a_partys_own(with_topics: Path) -> None:
    party = with_topics / "parties" / "party-0"
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

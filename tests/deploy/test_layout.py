"""The folders that server and parties lay out apart fit together as a simulation's do."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from clients.app import party_folder
from clients.party import open_party
from fedkd.deploy.init import init_deployment
from fedkd.deploy.layout import agreed_scenario, lay_out_party, lay_out_server
from fedkd.errors import DataError, DeployError, ModelError, PolicyError, ReleaseError
from fedkd.files import read_json, read_rows
from fedkd.party_card import DELIVERED, read_card
from fedkd.privacy.policy import read_policy
from fedkd.privacy.settings import Terms
from fedkd.release import fingerprint
from fedkd.run.folder import RunFolder
from fedkd.run.prepare import prepare_run
from tests.deploy.conftest import PARTIES
from tests.system.small import small


@pytest.fixture
def simulated(tmp_path: Path) -> RunFolder:
    return prepare_run(small(tmp_path / "runs"), 0)


@pytest.fixture
def deployment(tmp_path: Path, scenario_file: Path, simulated: RunFolder) -> Path:
    """A deployment whose parties own the rows that a simulation would have dealt to them."""
    folder = tmp_path / "made"
    init_deployment(folder, PARTIES, "localhost", 8443, scenario_file)
    for index, name in enumerate(PARTIES):
        assert read_card(simulated.party(index)).name == name
        set_data(folder / "parties" / name, str(simulated.party(index) / "private.jsonl"))
    return folder


def set_data(party: Path, path: str, more: str = "") -> None:
    lines = (party / "party.toml").read_text().splitlines()
    new = [f'path = "{path}"\n{more}' if one.startswith("path =") else one for one in lines]
    (party / "party.toml").write_text("\n".join(new))


def home(folder: Path) -> Path:
    return folder / "state" / agreed_scenario(folder).config_hash / "0"


def test_party_folder_is_that_of_the_simulation(deployment: Path, simulated: RunFolder) -> None:
    for index, name in enumerate(PARTIES):
        party = deployment / "parties" / name
        lay_out_party(party)
        own, theirs = home(party), simulated.party(index)
        assert (own / "private.jsonl").read_bytes() == (theirs / "private.jsonl").read_bytes()
        transfer = (simulated.public / "transfer.jsonl").read_bytes()
        assert (own / "texts" / "transfer.jsonl").read_bytes() == transfer
        card, other = read_json(own / "party.json"), read_json(theirs / "party.json")
        told = {"public": "", "deployed": True}
        assert card | told == other | told
        assert card["deployed"] and not other["deployed"]


def test_server_and_parties_agree_and_the_server_holds_no_private_row(deployment: Path) -> None:
    lay_out_server(deployment / "server")
    scenario = agreed_scenario(deployment / "server")
    run = RunFolder(deployment / "server" / "work" / scenario.folder(0))
    texts = {name: read_rows(run.public / f"{name}.jsonl")["text"] for name in ("transfer", "test")}
    private: set[str] = set()
    for name in PARTIES:
        party = deployment / "parties" / name
        lay_out_party(party)
        for public, mine in texts.items():
            assert read_rows(home(party) / "texts" / f"{public}.jsonl")["text"] == mine
        private |= set(read_rows(home(party) / "private.jsonl")["text"])
    held = "".join(p.read_text() for p in run.root.rglob("*.json*"))
    assert not [text for text in private - set(texts["test"]) if text in held]
    with np.load(run.truth) as truth:
        assert len(truth["test"]) == len(texts["test"])
    assert set(read_json(run.root / "federation.json")["parties"]) == set(PARTIES)


def test_public_texts_come_from_the_server_only_where_all_agreed_to_it(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    lay_out_party(party)
    local = open_party(home(party))
    assert local.card.public != DELIVERED
    text = (party / "scenario.toml").read_text()
    changed = text.replace("[data.transfer]", '[data.transfer]\ndelivery = "server"')
    assert changed != text
    (party / "scenario.toml").write_text(changed)
    lay_out_party(party)
    assert home(party) != local.folder
    assert open_party(home(party)).card.public == DELIVERED
    assert not list(home(party).rglob("transfer.jsonl"))


def test_label_names_and_csv_are_read(deployment: Path, simulated: RunFolder) -> None:
    party = deployment / "parties" / "food"
    rows = read_rows(simulated.party(0) / "private.jsonl")
    labels = read_card(simulated.party(0)).labels
    with (party / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        writer.writerows(
            (i, text, labels[y])
            for i, (text, y) in enumerate(zip(rows["text"], rows["label"], strict=True))
        )
    set_data(party, "mine.csv", 'test = "mine.csv"')
    lay_out_party(party)
    assert read_rows(home(party) / "private.jsonl") == rows
    assert read_rows(home(party) / "test.jsonl") == rows


def test_public_texts_are_not_trained_on(deployment: Path, simulated: RunFolder) -> None:
    party = deployment / "parties" / "food"
    public = read_rows(simulated.public / "transfer.jsonl")["text"][:3]
    lines = [f'{{"text": "{text}", "label": 0}}' for text in ["a text of my own", *public]]
    (party / "mine.jsonl").write_text("\n".join(lines))
    set_data(party, "mine.jsonl")
    assert any("3 rows of mine.jsonl" in note for note in lay_out_party(party))
    assert read_rows(home(party) / "private.jsonl")["text"] == ["a text of my own"]
    (party / "mine.jsonl").write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match="hold rows that are not public"):
        lay_out_party(party)


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("", "", r"data\.path of party food=''"),
        ("gone.csv", None, r"data\.path of party food='gone\.csv'"),
        ("rows.txt", "text,label\na,0\n", "be a csv, jsonl or parquet file"),
        ("rows.csv", "words,label\na,0\n", r"data\.text='text' to be a column"),
        ("rows.csv", "text,mood\na,0\n", r"data\.label='label' to be a column"),
        ("rows.csv", "text,label\na,glee\n", "label of row 1 of rows.csv='glee'"),
        ("rows.csv", "text,label\na,77\n", "label of row 1 of rows.csv='77'"),
        ("rows.csv", "text,label\n", "be readable"),
    ],
)
def test_unfit_data_is_told(deployment: Path, path: str, content: str | None, told: str) -> None:
    party = deployment / "parties" / "food"
    if path and content is not None:
        (party / path).write_text(content)
    set_data(party, path)
    with pytest.raises(DataError, match=told):
        lay_out_party(party)
    assert not (home(party) / "party.json").exists()


def test_unknown_teacher_is_told(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    with (party / "party.toml").open("a") as file:
        file.write('\nname = "no/such-model"\n')
    text = (party / "party.toml").read_text().replace('model = "bow"', 'model = "transformer"')
    (party / "party.toml").write_text(text)
    with pytest.raises(ModelError, match="no/such-model"):
        lay_out_party(party)


def test_laying_out_again_keeps_the_teacher_and_refuses_other_rows(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    lay_out_party(party)
    open_party(home(party)).train()
    teacher = {p: p.read_bytes() for p in (home(party) / "teacher").iterdir()}
    lay_out_party(party)
    assert {p: p.read_bytes() for p in (home(party) / "teacher").iterdir()} == teacher
    (party / "other.csv").write_text("text,label\nsomething else,0\n")
    set_data(party, "other.csv")
    before = (home(party) / "private.jsonl").read_bytes()
    with pytest.raises(DataError, match="changed after the teacher was trained"):
        lay_out_party(party)
    assert (home(party) / "private.jsonl").read_bytes() == before


def test_server_keeps_a_run_folder_that_holds_answers(deployment: Path) -> None:
    server = deployment / "server"
    lay_out_server(server)
    run = RunFolder(server / "work" / agreed_scenario(server).folder(0))
    run.intake.mkdir()
    (run.intake / "answer").write_text("kept")
    before = (run.root / "federation.json").stat().st_mtime_ns
    lay_out_server(server)
    assert (run.intake / "answer").read_text() == "kept"
    assert (run.root / "federation.json").stat().st_mtime_ns == before


def test_node_answers_only_what_its_party_has_agreed_to(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    lay_out_party(party)
    agreed = agreed_scenario(party).folder(0).as_posix()

    def asked(run_folder: str) -> Path:
        config = {"data-dir": str(party / "state")}
        return party_folder(Context(1, 1, config, RecordDict(), {"run-folder": run_folder}))

    assert asked(agreed) == home(party)
    others = (
        agreed[:-1] + "7",
        "runs/small/0123456789ab/0",
        "",
        "../../..",
        f"{agreed}/../../{home(party).parent.name}",
    )
    for other in others:
        with pytest.raises(DataError, match="has agreed to"):
            asked(other)
    other_transfer = fingerprint(["another transfer set"])
    with pytest.raises(ReleaseError, match="transfer_id"):
        open_party(home(party)).answer("transfer", (0, 1), other_transfer)


def test_a_party_that_has_decided_nothing_allows_what_the_scenario_needs(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    assert "has the last word" in (party / "policy.toml").read_text()
    assert read_policy(party) == Terms()
    notes = lay_out_party(party)
    assert any("No formal privacy guarantee" in note for note in notes)
    assert read_policy(home(party)) == Terms()


def test_a_policy_that_cannot_be_read_keeps_the_party_from_starting(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    (party / "policy.toml").write_text("unit = 'record'\nepsilon = 0\n")
    with pytest.raises(PolicyError, match=r"policy.toml:2"):
        lay_out_party(party)
    assert not home(party).exists()


def test_the_partys_policy_is_calibrated_and_bounds_the_scenario(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    own = "epsilon = 3\ndelta = 1e-6\nmechanism = { name = 'gaussian' }\n"
    (party / "policy.toml").write_text(own)
    notes = lay_out_party(party)
    assert any("epsilon 3 at delta 1e-06" in note for note in notes)
    settled = read_policy(home(party))
    assert settled is not None and (settled.mechanism.noise or 0) > 1
    file = party / "scenario.toml"
    asked = file.read_text() + "\n[privacy]\nepsilon = 50\nmechanism = { name = 'argmax' }\n"
    file.write_text(asked)
    with pytest.raises(PolicyError, match="gaussian"):
        lay_out_party(party)
    file.write_text(asked.replace("argmax", "gaussian"))
    lay_out_party(party)
    both = read_policy(home(party))
    assert both is not None and both.epsilon == 3 and both.delta == 1e-6


def test_a_sweep_is_not_deployed(deployment: Path) -> None:
    party = deployment / "parties" / "food"
    file = party / "scenario.toml"
    file.write_text(file.read_text() + "\n[[privacy.arm]]\nname = 'nothing'\n")
    with pytest.raises(DeployError, match="arm"):
        lay_out_party(party)

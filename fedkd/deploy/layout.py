"""From an operator's folder to the folders that the protocol reads, on each side alone.

Both sides derive the public texts from the same scenario; the fingerprint in every request shows
whether they agree. Only a party reads its private rows, and the server has none to lay out.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedkd.data.naming import name_labels
from fedkd.data.octis import is_octis
from fedkd.data.rows import Rows, normal_form
from fedkd.data.sources import Source
from fedkd.data.table_files import read_table
from fedkd.data.tables import SUFFIXES, Columns
from fedkd.deploy.documents import own_documents, ready_party, ready_server
from fedkd.deploy.public import PublicSets, public_sets
from fedkd.deploy.settings import PartySettings, check_table, read_party, read_server
from fedkd.deploy.terms import agreed_terms
from fedkd.errors import DataError, expected
from fedkd.files import read_rows, write_arrays, write_json, write_rows, write_text
from fedkd.methods import parse_methods
from fedkd.models.defaults import defaults
from fedkd.party_card import PartyCard, card_for
from fedkd.privacy.policy import write_policy
from fedkd.privacy.wording import guarantee
from fedkd.release import fingerprint
from fedkd.run.checks import check_deployable, check_methods, companion_notes
from fedkd.run.folder import RunFolder
from fedkd.run.prepare import environment
from fedkd.run.space import spaces_for
from fedkd.scenario import Model, Scenario
from fedkd.scenario_file import dump_scenario, load_scenario
from fedkd.topic_scenario import TopicFields
from fedkd.topics.card import FILE as TOPIC_CARD
from fedkd.topics.card import TopicCard, topic_card

SCENARIO_FILE = "scenario.toml"
STATE = "state"
WORK = "work"
OWN_TEXTS = "texts"


def agreed_scenario(folder: Path) -> Scenario:
    """Return the scenario in an operator's folder; results go below ``work``."""
    scenario = load_scenario(folder / SCENARIO_FILE)
    check_methods(scenario)
    check_deployable(scenario)
    return with_out(scenario)


def with_out(scenario: Scenario) -> Scenario:
    """Return the scenario with its results in ``runs``, wherever the file put them."""
    return scenario.model_copy(update={"run": scenario.run.model_copy(update={"out": "runs"})})


def lay_out_party(folder: Path) -> list[str]:
    """Check ``party.toml`` and write the party's folder of every seed; return what to tell.

    Each seed gets ``state/<configuration>/<seed>/``. Raises a :class:`~fedkd.errors.FedkdError`
    for data that is missing or unfit, and where the private rows have changed under a teacher
    that was trained on the old ones.
    """
    settings = read_party(folder)
    scenario = agreed_scenario(folder)
    check_table(settings, topics=scenario.topics is not None)
    if scenario.topics is None:
        _check_model(settings.teacher)
    notes = [f"party {settings.name}, configuration {scenario.config_hash}"]
    for seed in scenario.seeds:
        with contextlib.chdir(folder):
            public = public_sets(scenario, seed)
        train, texts = _own_rows(folder, settings, settings.data.path, "data.path", public)
        test = Rows((), np.empty(0, np.int64), ())
        if settings.data.test is not None:
            test, more = _own_rows(folder, settings, settings.data.test, "data.test", public)
            texts += more
        home = folder / STATE / scenario.config_hash / str(seed)
        terms = agreed_terms(
            folder, scenario, settings.name, rows=len(train),
            transfer_rows=len(public.transfer), labels=len(public.labels),
        )  # fmt: skip
        cards = _card(scenario, settings, seed, public), _topic_card(scenario, settings)
        _ready(folder, home, cards, public, (train, test))
        _write_party(home, cards, public, (train, test))
        write_policy(home, terms)
        transfer = fingerprint(public.transfer.text)[:16]
        notes.append(
            f"seed {seed}: {len(train)} private rows, {len(test)} own test rows; transfer set "
            f"{len(public.transfer)} rows, fingerprint {transfer}"
        )
        notes += [f"  note: {text}" for text in texts]
        notes.append(f"  privacy: {guarantee(terms)}")
    _write_shell(folder, settings.shell)
    return notes


def lay_out_server(folder: Path) -> list[str]:
    """Write the run folder of every seed below ``work``; return what to tell the operator.

    A run folder that is there already is kept: it may hold answers. Raises a
    :class:`~fedkd.errors.FedkdError` for a scenario that cannot be run by these parties.
    """
    settings, scenario = read_server(folder), agreed_scenario(folder)
    check_count(scenario, settings.parties)
    if scenario.topics is None:
        _check_model(scenario.student)
    notes = [f"scenario {scenario.name}, configuration {scenario.config_hash}"]
    work = folder.resolve() / WORK
    work.mkdir(exist_ok=True)
    for seed in scenario.seeds:
        home = RunFolder(work / scenario.folder(seed))
        if not (home.root / "federation.json").is_file():
            with contextlib.chdir(work):
                public = public_sets(scenario, seed)
                facts = _facts(public, settings.parties)
                if scenario.topics is not None and public.words is not None:
                    notes += (lacking := companion_notes(scenario.topics))
                    facts["warnings"] = [*public.warnings, *lacking]
                    ready_server(home, scenario.topics, public, public.words)
                else:
                    methods = parse_methods(scenario.method)
                    spaces_for(scenario, methods, facts, home.root / "cache")
            _write_run(home, scenario, public, facts)
        transfer = fingerprint(read_rows(home.public / "transfer.jsonl")["text"])[:16]
        state = "complete" if home.done else "ready"
        notes.append(f"seed {seed}: {home.root} ({state}); transfer set fingerprint {transfer}")
    _write_shell(folder, settings.shell)
    return notes


def check_count(scenario: Scenario, parties: tuple[str, ...]) -> None:
    """Raise :class:`DataError` unless the scenario is for as many parties as there are."""
    if scenario.parties.count != len(parties):
        raise DataError(
            expected(
                "parties.count",
                scenario.parties.count,
                f"equal the number of parties in the deployment, {len(parties)}",
                f"count = {len(parties)} in the scenario",
            )
        )


def _own_rows(
    folder: Path, settings: PartySettings, path: str, key: str, public: PublicSets
) -> tuple[Rows, list[str]]:
    """Read a party's file under the common label list; texts of the transfer set leave."""
    file = folder / path
    found = file.is_file() and file.suffix in SUFFIXES
    if not path or not (found or (public.words is not None and is_octis(file))):
        raise DataError(
            expected(
                f"{key} of party {settings.name}",
                path,
                "be a csv, jsonl or parquet file",
                f"{key.removeprefix('data.')} = 'rows.csv' under [data] in party.toml",
            )
        )
    if public.words is not None:
        return own_documents(file, key, settings, public, public.words)
    columns = Columns(settings.data.text, settings.data.label, None)
    table, warnings = read_table(file, path, columns)
    source = Source(settings.name, {"train": table}, public.labels, None, None, (), ("train",))
    named = name_labels(source, {})
    known = {normal_form(text) for text in public.transfer.text}
    kept = [row for row, text in enumerate(table.text) if normal_form(text) not in known]
    notes = list(warnings)
    if len(kept) < len(table.text):
        dropped = len(table.text) - len(kept)
        notes.append(f"{dropped} rows of {path} have the text of a transfer row (dropped)")
    if not kept:
        raise DataError(expected(key, path, "hold rows that are not public", "the private rows"))
    return Rows(table.text, named.labels["train"], table.domain).take(kept), notes


def _card(scenario: Scenario, settings: PartySettings, seed: int, public: PublicSets) -> PartyCard:
    return card_for(
        scenario,
        seed,
        settings.name,
        labels=public.labels,
        teacher=settings.teacher,
        own_texts=OWN_TEXTS,
        deployed=True,
    )


def _topic_card(scenario: Scenario, settings: PartySettings) -> TopicCard | None:
    if scenario.topics is None:
        return None
    return topic_card(scenario.topics, settings.topics or TopicFields())


def _ready(
    folder: Path,
    home: Path,
    cards: tuple[PartyCard, TopicCard | None],
    public: PublicSets,
    own: tuple[Rows, Rows],
) -> None:
    """Check a topic model and its encoder, from where the node will run."""
    card, topics = cards
    if topics is None:
        return
    home, work = home.resolve(), folder / WORK
    work.mkdir(exist_ok=True)
    with contextlib.chdir(work):
        texts = home / OWN_TEXTS if card.public == OWN_TEXTS else None
        ready_party(home, texts, topics, public, own)


def _write_party(
    home: Path,
    cards: tuple[PartyCard, TopicCard | None],
    public: PublicSets,
    own: tuple[Rows, Rows],
) -> None:
    card, topics = cards
    files: dict[str, dict[str, Sequence[Any]]] = {}
    for name, rows in zip(("private.jsonl", "test.jsonl"), own, strict=True):
        files[name] = {"text": rows.text}
        if topics is None:
            files[name]["label"] = rows.label.tolist()
    if card.public == OWN_TEXTS:
        files[f"{OWN_TEXTS}/transfer.jsonl"] = {"text": public.transfer.text}
        files[f"{OWN_TEXTS}/test.jsonl"] = {"text": public.test.text}
    draft = home.with_name(f".{home.name}.new")
    draft.mkdir(parents=True, exist_ok=True)
    card.write(draft)
    if topics is not None:
        topics.write(draft)
    for name, columns in files.items():
        write_rows(draft / name, columns)
    names = ["party.json", *(() if topics is None else (TOPIC_CARD,)), *files]
    trained = (home / "teacher.json").is_file() or any(home.glob("topics/*/figures.json"))
    changed = [n for n in names if trained and (home / n).read_bytes() != (draft / n).read_bytes()]
    if changed:
        raise DataError(
            expected(
                "files that changed after the teacher was trained",
                changed,
                "be none",
                f"the old data and settings, or moving {home} away to train anew",
            )
        )
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).replace(home / name)
    shutil.rmtree(draft)


def _facts(public: PublicSets, parties: tuple[str, ...]) -> dict[str, object]:
    return {
        "labels": list(public.labels),
        "values": public.values,
        "coordinates": public.coordinates,
        "parties": {name: {"teacher": "the party's own"} for name in parties},
        "transfer_rows": len(public.transfer),
        "warnings": list(public.warnings),
    }


def _write_run(
    folder: RunFolder, scenario: Scenario, public: PublicSets, facts: dict[str, object]
) -> None:
    write_text(folder.scenario, dump_scenario(scenario))
    write_json(folder.root / "environment.json", environment())
    write_rows(folder.public / "transfer.jsonl", {"text": public.transfer.text})
    write_rows(folder.public / "test.jsonl", {"text": public.test.text})
    nobody = np.full(len(public.test), -1, np.int64)
    truth = {"test": public.test.label, "party": nobody, "transfer": public.transfer.label}
    write_arrays(folder.truth, truth)
    write_json(folder.root / "federation.json", facts)


def _write_shell(folder: Path, values: dict[str, str]) -> None:
    """Leave the settings for the folder's script to read."""
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    write_text(folder / STATE / "settings.sh", lines)


def _check_model(model: Model) -> None:
    defaults(model)
    if model.name is not None:
        from fedkd.models.pretrained import local_folder  # noqa: PLC0415  # transformers

        local_folder(model.name)

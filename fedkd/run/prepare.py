"""Laying out a simulated federation on disk: public texts, and a folder for each party."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.data.federation import Federation, split_federation
from fedkd.files import write_arrays, write_json, write_rows, write_text
from fedkd.methods import parse_methods
from fedkd.models.defaults import defaults
from fedkd.party_card import PartyCard, card_for
from fedkd.privacy.mechanisms import settled
from fedkd.privacy.policy import check_terms, write_policy
from fedkd.privacy.settings import Terms
from fedkd.run.folder import RunFolder
from fedkd.run.space import spaces_for
from fedkd.scenario import Scenario
from fedkd.scenario_file import dump_scenario
from fedkd.topic_scenario import Topics

_PACKAGES = ("fedkd", "flwr", "torch", "numpy", "scipy", "scikit-learn", "transformers", "datasets")
SHARED_TEXTS = "../../public"


def prepare_run(scenario: Scenario, seed: int) -> RunFolder:
    """Make the run folder of one seed and deal the rows, unless that is done already.

    ``federation.json`` is written last and marks the layout complete.
    """
    folder = RunFolder(scenario.folder(seed))
    folder.root.mkdir(parents=True, exist_ok=True)
    if not folder.scenario.is_file():
        write_text(folder.scenario, dump_scenario(scenario))
        write_json(folder.root / "environment.json", environment())
    if (folder.root / "federation.json").is_file():
        return folder
    if scenario.topics is not None:
        prepare_topics(scenario, scenario.topics, seed, folder)
    else:
        federation = split_federation(scenario, seed)
        check_models(scenario, federation)
        methods = parse_methods(scenario.method)
        spaces_for(scenario, methods, summarise(scenario, federation), folder.root / "cache")
        lay_out(scenario, seed, federation, folder)
    return folder


def prepare_topics(scenario: Scenario, topics: Topics, seed: int, folder: RunFolder) -> None:
    """Lay out a federation of topic models."""
    from fedkd.run import topic_layout  # noqa: PLC0415  # imports the text encoders

    corpus = topic_layout.read_corpus(scenario, seed)
    federation = topic_layout.topic_federation(scenario, corpus, seed)
    cache = Path(scenario.run.out) / "vectors"
    topic_layout.lay_out_topics(topics, corpus, federation, folder, cache)
    lay_out(scenario, seed, federation, folder)


def check_models(scenario: Scenario, federation: Federation) -> None:
    """Raise :class:`~fedkd.errors.ModelError` for a teacher or student that cannot be built.

    A model with a name must be found, locally or on the hub, with all its files.
    """
    names = [party.name for party in federation.parties]
    teachers = (scenario.teacher.for_party(index, name) for index, name in enumerate(names))
    for model in dict.fromkeys((*teachers, scenario.student)):
        defaults(model)
        if model.name is not None:
            from fedkd.models.pretrained import local_folder  # noqa: PLC0415  # transformers

            local_folder(model.name)


def lay_out(scenario: Scenario, seed: int, federation: Federation, folder: RunFolder) -> None:
    """Write the public texts, the server's truth and every party's own folder."""
    public = folder.public
    public.mkdir(parents=True, exist_ok=True)
    write_rows(public / "transfer.jsonl", {"text": federation.transfer.text})
    test = [text for party in federation.parties for text in party.test.text]
    write_rows(public / "test.jsonl", {"text": test})
    names = [party.name for party in federation.parties]
    owner = np.repeat(np.arange(len(names)), [len(p.test) for p in federation.parties])
    write_arrays(
        folder.truth,
        {
            "test": np.concatenate([party.test.label for party in federation.parties]),
            "party": owner,
            "transfer": federation.transfer.label,
            **_fine_labels(federation),
        },
    )
    own_policies = policies(scenario, federation)
    for index, party in enumerate(federation.parties):
        own = folder.party(index)
        own.mkdir(parents=True, exist_ok=True)
        for name, rows in (("private", party.train), ("test", party.test)):
            write_rows(own / f"{name}.jsonl", {"text": rows.text, "label": rows.label.tolist()})
        _card(scenario, seed, federation, index).write(own)
        if party.name in own_policies:
            write_policy(own, own_policies[party.name])
    write_json(folder.root / "federation.json", summarise(scenario, federation))


def policies(scenario: Scenario, federation: Federation) -> dict[str, Terms]:
    """Return each party's policy by the scenario's ``[privacy]``, with the noise calibrated.

    Raises :class:`~fedkd.errors.PolicyError` for terms that cannot hold for a party's rows.
    """
    if scenario.privacy is None:
        return {}
    queries = len(federation.transfer)
    plain = () if scenario.topics is not None else parse_methods(scenario.method)
    queries += any(method.weights == "bias" for method in plain)
    found = {}
    for index, party in enumerate(federation.parties):
        terms = scenario.privacy.for_party(index, party.name)
        check_terms(terms, len(party.train))
        found[party.name] = settled(terms, queries, len(federation.labels))
    return found


def summarise(scenario: Scenario, federation: Federation) -> dict[str, object]:
    """Return the plan in figures: rows, label counts and teacher of each party, and warnings."""
    labels = len(federation.labels)
    parties = {
        party.name: {
            "rows": len(party.train),
            "test_rows": len(party.test),
            "label_counts": np.bincount(party.train.label, minlength=labels).tolist(),
            "teacher": scenario.teacher.for_party(index, party.name).model,
        }
        for index, party in enumerate(federation.parties)
    }
    return {
        "labels": list(federation.labels),
        "values": federation.values,
        "coordinates": federation.coordinates,
        "parties": parties,
        "transfer_rows": len(federation.transfer),
        "warnings": list(federation.warnings),
    }


def environment() -> dict[str, object]:
    """Return what the figures were measured with."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _fine_labels(federation: Federation) -> dict[str, NDArray[np.int64]]:
    """Return the transfer rows' domains as numbers, if every row has one."""
    domains = federation.transfer.domain
    if not domains or "" in domains:
        return {}
    return {"fine": np.unique(domains, return_inverse=True)[1].astype(np.int64)}


def _card(scenario: Scenario, seed: int, federation: Federation, index: int) -> PartyCard:
    name = federation.parties[index].name
    return card_for(
        scenario,
        seed,
        name,
        labels=federation.labels,
        teacher=scenario.teacher.for_party(index, name),
        own_texts=SHARED_TEXTS,
    )

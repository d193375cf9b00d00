"""Teachers that protect their records: trained with noise, or many that vote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import PolicyError, expected
from fedkd.files import read_json, write_json
from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.privacy.accountant import Event, event_of
from fedkd.privacy.mechanisms import pate
from fedkd.privacy.settings import Terms
from fedkd.seeds import seed_for

if TYPE_CHECKING:
    from clients.party import Party

PRICE = "privacy.json"
SECRET = "not-publishable.json"


def fit_private(party: Party, terms: Terms) -> dict[str, int | float] | None:
    """Train the teacher that the policy prescribes; None where it prescribes an ordinary one."""
    rows = party.private_rows("private")
    label = np.asarray(rows["label"], np.int64)
    match terms.mechanism.name:
        case "dp-sgd":
            _fit_noisy(party, terms, rows["text"], label)
        case "pate":
            _fit_voters(party, terms, rows["text"], label)
        case _:
            return None
    return {"rows": len(label)}


def spent_in_training(party: Party, terms: Terms) -> Event:
    """Return what the training of the teacher costs, or has cost where it is done.

    Raises :class:`PolicyError` where the teacher at hand was trained without noise.
    """
    from fedkd.privacy.mechanisms import dp_sgd  # noqa: PLC0415  # imports Opacus

    price = party.folder / "teacher" / PRICE
    if not (party.folder / "teacher.json").is_file():
        return dp_sgd.event(terms.mechanism, terms.epsilon, terms.delta)
    if not price.is_file():
        raise PolicyError(
            expected("teacher", "trained without noise", "be trained with 'dp-sgd'",
                     "moving the party's teacher away, to train it anew")
        )  # fmt: skip
    return event_of(read_json(price))


def private_answers(party: Party, terms: Terms, texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the sub-teachers' shares of votes (rows, labels), or None for a single teacher."""
    if terms.mechanism.name != "pate":
        return None
    if not (party.folder / "teacher.json").is_file():
        party.train()
    folders = sorted((party.folder / "teacher").glob("[0-9]*"))
    if len(folders) != (terms.mechanism.teachers or pate.TEACHERS):
        raise PolicyError(
            expected("sub-teachers", len(folders), "be as many as the policy says",
                     "moving the party's teacher away, to train them anew")
        )  # fmt: skip
    votes = np.zeros((len(texts), len(party.card.labels)))
    for folder in folders:
        one = classifier.load(folder, cache=party.folder / "cache")
        top = training.predict(one, texts).argmax(axis=1)
        votes[np.arange(len(texts)), top] += 1
    _note_dependent(party, terms, votes)
    shares: NDArray[np.float64] = votes / len(folders)
    return shares


def _fit_noisy(party: Party, terms: Terms, texts: Sequence[str], label: NDArray[np.int64]) -> None:
    from fedkd.privacy.mechanisms import dp_sgd  # noqa: PLC0415  # imports Opacus

    public = party.public_texts("transfer")
    event = dp_sgd.event(terms.mechanism, terms.epsilon, terms.delta)
    with single_thread():
        teacher = classifier.build(
            party.card.teacher,
            len(party.card.labels),
            seed=seed_for(party.card.seed, party.card.name, 0, "teacher"),
            public_text=public,
            fit_text=public,
            cache=party.folder / "cache",
        )
        inputs = teacher.inputs(texts)
        own, key = terms.mechanism, party.noise_key
        dp_sgd.fit(teacher, inputs, label, mechanism=own, spent=event, key=key)
    teacher.save(party.folder / "teacher", party.card.labels)
    write_json(party.folder / "teacher" / PRICE, event.values())


def _fit_voters(party: Party, terms: Terms, texts: Sequence[str], label: NDArray[np.int64]) -> None:
    count = terms.mechanism.teachers or pate.TEACHERS
    seed = seed_for(party.card.seed, party.card.name, 0, "teacher")
    owner = pate.shards(texts, count, seed)
    for number in range(count):
        mine = np.flatnonzero(owner == number)
        own = [texts[int(row)] for row in mine] or list(party.public_texts("transfer")[:1])
        with single_thread():
            one = classifier.build(
                party.card.teacher,
                len(party.card.labels),
                seed=seed,
                public_text=party.public_texts("transfer"),
                fit_text=own,
                cache=party.folder / "cache",
            )
            if len(mine):
                loss = training.hard_labels(label[mine])
                training.fit(one, own, loss, party.card.teacher, seed=seed)
        one.save(party.folder / "teacher" / f"{number:04d}", party.card.labels)


def _note_dependent(party: Party, terms: Terms, votes: NDArray[np.float64]) -> None:
    """Leave the data-dependent epsilon for the party's own eyes."""
    noise = terms.mechanism.noise
    if noise is not None:
        epsilon = pate.dependent_epsilon(votes, noise, terms.delta)
        note = {
            "warning": "computed from private votes: NOT PUBLISHABLE",
            "rows": len(votes), "delta": terms.delta, "data_dependent_epsilon": epsilon,
        }  # fmt: skip
        (party.folder / SECRET).write_text(json.dumps(note) + "\n", encoding="utf-8")

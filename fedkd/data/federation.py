"""The federation: each party's private rows and the public transfer set."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedkd.data.catalogue import DATA_VARIABLE
from fedkd.data.corpus import load_corpus
from fedkd.data.partition import Share, partition
from fedkd.data.rows import Rows, list_some, normal_form
from fedkd.data.sources import locate
from fedkd.data.transfer import choose_transfer
from fedkd.scenario import Data, Labels, Parties, Scenario


@dataclass(frozen=True)
class PartyRows:
    """One party's private rows, and the test rows that resemble them."""

    name: str
    train: Rows
    test: Rows


@dataclass(frozen=True)
class Federation:
    """Who holds what. A party's number is its position.

    ``transfer.label`` holds true labels where known, for a reference bound only, else -1;
    ``values`` (one a label) and ``coordinates`` (by name) are those that the source declares;
    ``warnings`` count in plain words what was dropped or looks odd.
    """

    labels: tuple[str, ...]
    values: tuple[float, ...] | None
    coordinates: dict[str, tuple[float, ...]] | None
    parties: tuple[PartyRows, ...]
    transfer: Rows
    warnings: tuple[str, ...]


def split_federation(scenario: Scenario, seed: int) -> Federation:
    """Load a scenario's text and deal it: the same arguments and files give the same rows.

    The last few answers are kept in memory until a file changes, so every party may call this;
    treat the arrays as read-only. Raises :class:`fedkd.errors.DataError`.
    """
    sources = locate(scenario.data.source)
    if scenario.data.transfer.source is not None:
        sources += locate(scenario.data.transfer.source)
    stamp = tuple(located.stamp() for located in sources)
    surroundings = (str(Path.cwd()), os.environ.get(DATA_VARIABLE), stamp)
    asked = [part.model_dump_json(by_alias=True) for part in _parts(scenario)]
    return _split(*asked, seed, surroundings)


def _parts(scenario: Scenario) -> tuple[Data, Labels, Parties]:
    return scenario.data, scenario.labels, scenario.parties


@lru_cache(maxsize=4)
def _split(data: str, labels: str, parties: str, seed: int, surroundings: object) -> Federation:
    """Split anew; ``surroundings`` is there to tell one answer from another."""
    text, dealt = Data.model_validate_json(data), Parties.model_validate_json(parties)
    corpus = load_corpus(text, Labels.model_validate_json(labels), seed)
    chosen = choose_transfer(corpus, text, seed)
    test = corpus.splits["test"]
    shares = partition(chosen.private, test, dealt, seed)
    rows = tuple(
        PartyRows(share.name, chosen.private.take(share.train), test.take(share.test))
        for share in shares
    )
    notes = (
        *_unused(shares, chosen.private, test),
        *_repeated(chosen.private, test),
        *_thin(rows, len(corpus.labels)),
    )
    return Federation(
        labels=corpus.labels,
        values=corpus.values,
        coordinates=corpus.coordinates,
        parties=rows,
        transfer=chosen.transfer,
        warnings=(*corpus.warnings, *chosen.warnings, *notes),
    )


def _unused(shares: tuple[Share, ...], private: Rows, test: Rows) -> list[str]:
    """Count private and test rows that no party holds, by domain."""
    notes = []
    for kind, rows, used in (
        ("private", private, [share.train for share in shares]),
        ("test", test, [share.test for share in shares]),
    ):
        left = np.setdiff1d(np.arange(len(rows)), np.concatenate(used))
        if len(left):
            counts = Counter(rows.domain[row] for row in left)
            by_domain = ", ".join(f"{n} in {d!r}" for d, n in sorted(counts.items()) if d)
            notes.append(
                f"{len(left)} {kind} rows belong to no party{f' ({by_domain})' * bool(by_domain)}"
            )
    return notes


def _repeated(private: Rows, test: Rows) -> list[str]:
    forms = {normal_form(text) for text in private.text}
    repeated = sum(normal_form(text) in forms for text in test.text)
    return [f"{repeated} test rows have the text of a private training row"] if repeated else []


def _thin(parties: tuple[PartyRows, ...], labels: int) -> list[str]:
    """Name the parties that make weak teachers or poor judges."""
    facts = {
        "hold rows of one label only": [p for p in parties if len(np.unique(p.train.label)) == 1],
        f"hold fewer than {labels} rows, the number of labels": [
            p for p in parties if len(p.train) < labels
        ],
        "have no test rows": [p for p in parties if not len(p.test)],
    }
    return [
        f"{len(found)} of {len(parties)} parties {fact}: {list_some([p.name for p in found])}"
        for fact, found in facts.items()
        if found
    ]

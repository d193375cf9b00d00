"""The public sets of a deployment, which server and parties each read for themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.data.bags import word_cutter
from fedkd.data.corpus import load_corpus
from fedkd.data.rows import Rows
from fedkd.data.transfer import choose_transfer
from fedkd.run.topic_layout import choose_public, corpus_labels, corpus_rows, read_corpus
from fedkd.scenario import Scenario
from fedkd.topic_scenario import Topics


@dataclass(frozen=True)
class PublicWords:
    """What both sides know of a topic corpus besides its public documents.

    ``cut`` turns a text into words as the corpus does; ``topics`` (K, words) are the true ones of
    a generated corpus.
    """

    vocabulary: tuple[str, ...]
    cut: Callable[[str], list[str]]
    topics: NDArray[np.float64] | None


@dataclass(frozen=True)
class PublicSets:
    """What server and parties both know: labels, transfer set and test set of one seed.

    ``words`` is there where the scenario is one of topic models.
    """

    labels: tuple[str, ...]
    values: tuple[float, ...] | None
    coordinates: dict[str, tuple[float, ...]] | None
    transfer: Rows
    test: Rows
    warnings: tuple[str, ...]
    words: PublicWords | None = None


def public_sets(scenario: Scenario, seed: int) -> PublicSets:
    """Read the scenario's sources; the training rows left over are nobody's and are dropped."""
    if scenario.topics is not None:
        return _public_documents(scenario, seed)
    corpus = load_corpus(scenario.data, scenario.labels, seed)
    chosen = choose_transfer(corpus, scenario.data, seed)
    return PublicSets(
        labels=corpus.labels,
        values=corpus.values,
        coordinates=corpus.coordinates,
        transfer=chosen.transfer,
        test=corpus.splits["test"],
        warnings=(*corpus.warnings, *chosen.warnings),
    )


def _public_documents(scenario: Scenario, seed: int) -> PublicSets:
    corpus = read_corpus(scenario, seed)
    chosen = choose_public(scenario, corpus, seed)
    rows, topics = corpus_rows(corpus), scenario.topics or Topics()
    cutter = word_cutter(str(scenario.data.source), topics.preprocessing)
    return PublicSets(
        labels=corpus_labels(corpus),
        values=None,
        coordinates=None,
        transfer=rows.take(chosen.public),
        test=rows.take(chosen.held_out),
        warnings=corpus.warnings,
        words=PublicWords(corpus.vocabulary, cutter, corpus.topics),
    )

"""Laying out a simulated federation of topic models: public documents and the parties' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.data.bags import TopicCorpus, load_topics
from fedkd.data.federation import Federation, PartyRows
from fedkd.data.partition import partition
from fedkd.data.rows import Rows
from fedkd.errors import ScenarioError, expected
from fedkd.files import write_arrays, write_rows
from fedkd.models.determinism import single_thread
from fedkd.models.text_vectors import text_vectors
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from fedkd.seeds import numpy_generator
from fedkd.topic_scenario import Topics
from fedkd.topics.card import topic_card
from fedkd.topics.model import recipe, vector_file

TRUE_TOPICS = "true-topics.npz"
CLASS = "document"


def read_corpus(scenario: Scenario, seed: int) -> TopicCorpus:
    """Return the corpus of a scenario with topics; raises :class:`~fedkd.errors.DataError`."""
    source = scenario.data.source
    if not isinstance(source, str):
        raise ScenarioError(
            expected("data.source", source, "be one topic corpus", "source = 'generated:topics'")
        )
    topics, data = scenario.topics or Topics(), scenario.data
    return load_topics(
        source, text=data.text, label=data.label, preprocessing=topics.preprocessing, seed=seed
    )


@dataclass(frozen=True)
class Chosen:
    """Numbers of a corpus's documents, each ascending: public, held out, and left private."""

    public: NDArray[np.int64]
    held_out: NDArray[np.int64]
    private: NDArray[np.int64]


def choose_public(scenario: Scenario, corpus: TopicCorpus, seed: int) -> Chosen:
    """Draw the public documents; the corpus's test documents are held out.

    Where the corpus has no test split, ``data.test`` of it is drawn. ``topics.public`` is a share
    of all documents; with ``topics.whole`` every document is both public and the one party's.
    """
    topics = scenario.topics
    if topics is None:
        raise ScenarioError(expected("topics", None, "be given", "a [topics] table"))
    count = len(corpus.texts)
    draw = numpy_generator(seed, "", 0, "public documents")
    held_out = np.flatnonzero(corpus.splits == "test")
    if not len(held_out):
        held_out = np.sort(draw.permutation(count)[: max(1, round(scenario.data.test * count))])
    if topics.whole:
        if scenario.parties.count != 1:
            raise ScenarioError(
                expected("parties.count", scenario.parties.count, "be 1 with topics.whole",
                         "whole = false")
            )  # fmt: skip
        return Chosen(np.arange(count), held_out, np.arange(count))
    rest = np.setdiff1d(np.arange(count), held_out)
    wanted = scenario.data.transfer.rows or round(topics.public * count)
    if wanted >= len(rest):
        raise ScenarioError(
            expected("public documents", wanted, f"be below {len(rest)}", "public = 0.4")
        )
    public = np.sort(draw.permutation(rest)[:wanted])
    return Chosen(public, held_out, np.setdiff1d(rest, public))


def topic_federation(scenario: Scenario, corpus: TopicCorpus, seed: int) -> Federation:
    """Choose the public documents and deal the private ones."""
    chosen, rows = choose_public(scenario, corpus, seed), corpus_rows(corpus)
    own, test = rows.take(chosen.private), rows.take(chosen.held_out)
    shares = partition(own, test, scenario.parties, seed)
    return Federation(
        labels=corpus_labels(corpus),
        values=None,
        coordinates=None,
        parties=tuple(PartyRows(s.name, own.take(s.train), test.take(s.test)) for s in shares),
        transfer=rows.take(chosen.public),
        warnings=corpus.warnings,
    )


def corpus_labels(corpus: TopicCorpus) -> tuple[str, ...]:
    """Return the names of the classes, one name where the corpus has none."""
    return corpus.label_names or (CLASS,)


def corpus_rows(corpus: TopicCorpus) -> Rows:
    """Return the documents as rows."""
    count = len(corpus.texts)
    labels = np.zeros(count, np.int64) if corpus.labels is None else corpus.labels
    return Rows(tuple(corpus.texts), np.maximum(labels, 0), ("",) * count)


def lay_out_topics(
    topics: Topics, corpus: TopicCorpus, federation: Federation, folder: RunFolder, cache: Path
) -> None:
    """Write what a simulation adds to a run folder: topic cards, vectors, reference, true topics.

    Vectors of the whole corpus are computed once, in ``cache``; each party finds its own ready.
    """
    public = list(federation.transfer.text)
    encoders: set[str] = set()
    for index, party in enumerate(federation.parties):
        own = folder.party(index)
        own.mkdir(parents=True, exist_ok=True)
        card = topic_card(topics, topics.teacher.for_party(index, party.name))
        card.write(own)
        made = recipe(card.model, inputs="combined", encoder=card.encoder)
        if made.inputs != "bag":
            encoders.add(made.encoder)
            place = _lookup(corpus, made.encoder, cache, public)
            _write_vectors(own, "private", made.encoder, place, party.train.text)
            _write_vectors(own, "own-test", made.encoder, place, party.test.text)
    encoders.add(recipe(topics.student, inputs="zero-shot", encoder=topics.encoder).encoder)
    test = [text for party in federation.parties for text in party.test.text]
    for encoder in sorted(encoders):
        place = _lookup(corpus, encoder, cache, public)
        _write_vectors(folder.public, "transfer", encoder, place, public)
        _write_vectors(folder.public, "test", encoder, place, test)
    write_measures(folder, corpus.texts, corpus.vocabulary, corpus.topics)


def write_measures(
    folder: RunFolder,
    reference: Sequence[str],
    vocabulary: Sequence[str],
    topics: NDArray[np.float64] | None,
) -> None:
    """Write what topics are measured by: documents to count words in, and the true topics."""
    write_rows(folder.root / "reference.jsonl", {"text": reference})
    if topics is not None:
        arrays = {"topics": topics, "words": np.array(vocabulary)}
        write_arrays(folder.root / TRUE_TOPICS, arrays)


def true_topics(folder: RunFolder, words: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Return the generator's topics on these words, rows summing to one, where there are any."""
    file = folder.root / TRUE_TOPICS
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        place = {word: column for column, word in enumerate(arrays["words"].tolist())}
        topics = np.zeros((len(arrays["topics"]), len(words)))
        for column, word in enumerate(words):
            if word in place:
                topics[:, column] = arrays["topics"][:, place[word]]
    shares: NDArray[np.float64] = topics / topics.sum(axis=1, keepdims=True)
    return shares


Lookup = dict[str, NDArray[np.float16]]


def _lookup(corpus: TopicCorpus, encoder: str, cache: Path, public: list[str]) -> Lookup:
    with single_thread():
        found = text_vectors(corpus.texts, encoder, cache, fit_texts=public)
    return dict(zip(corpus.texts, found, strict=True))


def _write_vectors(
    folder: Path, name: str, encoder: str, place: Lookup, texts: tuple[str, ...] | list[str]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if texts:
        np.save(folder / vector_file(name, encoder), np.stack([place[text] for text in texts]))

"""Topic models of a deployment: a party's own documents, and what each side makes ready."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import numpy as np

from fedkd.data.bags import count_words
from fedkd.data.octis import is_octis, read_octis
from fedkd.data.rows import Rows, list_some
from fedkd.data.table_files import read_table
from fedkd.data.tables import Columns
from fedkd.deploy.public import PublicSets, PublicWords
from fedkd.deploy.settings import PartySettings
from fedkd.errors import DataError, expected
from fedkd.models.determinism import single_thread
from fedkd.run.folder import RunFolder
from fedkd.run.topic_layout import write_measures
from fedkd.topic_scenario import Topics
from fedkd.topics.card import TopicCard
from fedkd.topics.model import Recipe, recipe, vectors_for

OWN_TEST = "data.test"


def own_documents(
    file: Path, key: str, settings: PartySettings, public: PublicSets, words: PublicWords
) -> tuple[Rows, list[str]]:
    """Return a party's documents as words with blanks between them, and what to tell.

    ``file`` is a csv, jsonl or parquet file, or an OCTIS folder, of which the test documents are
    the party's own test and the others private. Documents without a word are dropped and counted;
    those whose words in the source's vocabulary are the text of a public document are counted, and
    stay as in a simulation: short titles repeat. Classes are not read: nothing that a party does
    needs them. Raises :class:`DataError`.
    """
    path = settings.data.path if key != OWN_TEST else str(settings.data.test)
    if is_octis(file):
        corpus = count_words(*read_octis(file, path))
        chosen = (corpus.splits == "test") == (key == OWN_TEST)
        texts, notes = list(compress(corpus.texts, chosen)), list(corpus.warnings)
    else:
        table, warnings = read_table(file, path, Columns(settings.data.text, None, None))
        cut = [" ".join(words.cut(text)) for text in table.text]
        texts, notes = [text for text in cut if text], list(warnings)
        empty = [number for number, text in zip(table.number, cut, strict=True) if not text]
        if empty:
            rows = f"{len(empty)} rows of {path} have no word"
            notes.append(f"{rows}: rows {list_some(empty)} (dropped)")
    if not texts:
        raise DataError(expected(key, path, "hold documents with words", "the private ones"))
    repeats = _repeats(texts, public, words)
    if repeats:
        notes.append(f"{repeats} documents of {path} have the words of a public one (kept)")
    return Rows(tuple(texts), np.zeros(len(texts), np.int64), ("",) * len(texts)), notes


def ready_party(
    home: Path, texts: Path | None, card: TopicCard, public: PublicSets, own: tuple[Rows, Rows]
) -> None:
    """Check a party's topic model against its documents and compute its vectors ahead.

    ``home`` is the party's folder of a seed, ``texts`` that of the public texts, where it does not
    wait for the server's. Raises :class:`DataError` for fewer documents, or different words in
    them, than topics, and :class:`~fedkd.errors.ModelError` for an encoder that cannot be loaded.
    """
    made = recipe(card.model, inputs="combined", encoder=card.encoder)
    private, test = (list(rows.text) for rows in own)
    _check_topics(made, private, "private documents", "topics.topics of party.toml")
    _compute(made, home, {"private": private, "own-test": test}, public)
    if texts is not None:
        known = {"transfer": list(public.transfer.text), "test": list(public.test.text)}
        _compute(made, texts, known, public)


def ready_server(folder: RunFolder, topics: Topics, public: PublicSets, words: PublicWords) -> None:
    """Check the student and write what the server measures by; its vectors are computed ahead.

    Coherence is counted on the public and the held-out documents: the server holds no others.
    Raises as :func:`ready_party`.
    """
    made = recipe(topics.student, inputs="zero-shot", encoder=topics.encoder)
    transfer, test = list(public.transfer.text), list(public.test.text)
    _check_topics(made, transfer, "public documents", "topics.student.topics")
    _compute(made, folder.public, {"transfer": transfer, "test": test}, public)
    write_measures(folder, [*transfer, *test], words.vocabulary, words.topics)


def _repeats(texts: Sequence[str], public: PublicSets, words: PublicWords) -> int:
    # The public documents hold words of the source's vocabulary alone, so only those can be alike.
    vocabulary, known = frozenset(words.vocabulary), frozenset(public.transfer.text)
    return sum(" ".join(w for w in t.split() if w in vocabulary) in known for t in texts)


def _check_topics(made: Recipe, texts: Sequence[str], what: str, key: str) -> None:
    different = len({word for text in texts for word in text.split()})
    for count, kind in ((len(texts), what), (different, f"different words in {what}")):
        if made.topics > count:
            raise DataError(
                expected(key, made.topics, f"be at most the number of {kind}, {count}",
                         f"topics = {max(2, count // 10)}")
            )  # fmt: skip


def _compute(made: Recipe, home: Path, sets: dict[str, list[str]], public: PublicSets) -> None:
    with single_thread():
        for name, texts in sets.items():
            if texts:
                vectors_for(made, home, name, texts, public.transfer.text)

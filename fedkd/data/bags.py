"""Topic corpora: documents as counted words, from OCTIS folders, raw texts or a generator."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from fedkd.data.catalogue import catalogue
from fedkd.data.documents import Documents, index_labels
from fedkd.data.generated_topics import NAME, generated_topics
from fedkd.data.octis import is_octis, read_octis
from fedkd.data.rows import list_some
from fedkd.data.sources import locate, read_source
from fedkd.data.tables import Columns
from fedkd.errors import DataError, expected
from fedkd.topic_scenario import Preprocessing

Bags = sparse.csr_array
USUAL_LABEL = "label"
_RAW_SPLITS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class TopicCorpus:
    """Documents as bags of words; every field with documents has them in the same order.

    ``bags`` (documents, words) float32 counts with sorted indices, no row empty; ``texts`` are the
    words of the vocabulary in the document's order, joined by blanks; ``labels`` (documents,)
    index ``label_names``, -1 unknown, None where there are no classes; ``splits`` are 'train',
    'val' or 'test'; ``topics`` (K, words) are the true ones where the corpus was generated.
    """

    bags: Bags
    texts: tuple[str, ...]
    labels: NDArray[np.int64] | None
    label_names: tuple[str, ...]
    vocabulary: tuple[str, ...]
    splits: NDArray[np.str_]
    topics: NDArray[np.float64] | None
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: NDArray[np.int64] | Sequence[int]) -> TopicCorpus:
        """Return the documents at ``index``, in that order, over the same vocabulary."""
        rows = np.asarray(index, np.int64)
        return replace(
            self,
            bags=sparse.csr_array(self.bags[rows]),
            texts=tuple(self.texts[row] for row in rows),
            labels=None if self.labels is None else self.labels[rows],
            splits=self.splits[rows],
        )

    def part(self, split: str) -> TopicCorpus:
        """Return the documents of one split."""
        return self.take(np.flatnonzero(self.splits == split))


def vectoriser(settings: Preprocessing) -> Any:
    """Return the CountVectorizer, not fitted."""
    return CountVectorizer(
        lowercase=True,
        strip_accents="unicode",
        token_pattern=r"(?u)\b[^\W\d_]{3,}\b",
        stop_words="english" if settings.stop_words else None,
        min_df=settings.min_df,
        max_df=settings.max_df,
        max_features=settings.max_words,
    )


def load_topics(
    source: str,
    *,
    text: str = "text",
    label: str | None = "label",
    preprocessing: Preprocessing | None = None,
    seed: int = 0,
) -> TopicCorpus:
    """Return the topic corpus that ``source`` names.

    ``generated:topics`` (drawn by ``seed``); the path or catalogue name of an OCTIS folder, read as
    it stands; or the path of a csv, jsonl or parquet file, or of a folder of such files, whose
    column ``text`` is preprocessed and whose column ``label`` is the class. There are no classes
    where ``label`` is None, or is the usual name and no column has it.
    The vocabulary of raw texts comes from their training documents. Documents without a word of
    the vocabulary are left out and counted in ``warnings``. Raises :class:`DataError`.
    """
    if source == NAME:
        return count_words(*generated_topics(seed))
    entry = catalogue().get(source)
    folder = _octis_folder(source)
    if folder is not None:
        name = source if entry else folder.resolve().name
        return count_words(*read_octis(folder, name, entry.labels if entry else None))
    settings = preprocessing or Preprocessing()
    columns = Columns(text, label, None, label_needed=label != USUAL_LABEL)
    documents, vocabulary = _read_raw(source, columns, settings)
    return count_words(documents, vocabulary, settings.min_words)


def word_cutter(source: str, settings: Preprocessing) -> Callable[[str], list[str]]:
    """Return how a text becomes words in the corpus that ``source`` names, whatever is kept later.

    At blanks where the corpus is preprocessed already; as ``settings`` say elsewhere.
    """
    if source == NAME or _octis_folder(source) is not None:
        return str.split
    cut: Callable[[str], list[str]] = vectoriser(settings).build_analyzer()
    return cut


def count_words(documents: Documents, vocabulary: Sequence[str], min_words: int = 1) -> TopicCorpus:
    """Count the vocabulary's words in every document.

    Words outside the vocabulary are left out, then documents of fewer than ``min_words`` words;
    both are counted in ``warnings``. Raises :class:`DataError` where no document is left.
    """
    place = {word: index for index, word in enumerate(vocabulary)}
    rows = [[place[word] for word in tokens if word in place] for tokens in documents.tokens]
    kept = [index for index, row in enumerate(rows) if len(row) >= max(1, min_words)]
    if not kept:
        raise DataError(
            expected(
                "documents with a word of the vocabulary", 0, "be at least 1",
                "another vocabulary, or a smaller min_df",
            )
        )  # fmt: skip
    start = np.cumsum([0, *(len(rows[index]) for index in kept)])
    columns = np.fromiter((w for index in kept for w in rows[index]), np.int32, int(start[-1]))
    shape = (len(kept), len(vocabulary))
    bags = sparse.csr_array((np.ones(len(columns), np.float32), columns, start), shape=shape)
    bags.sum_duplicates()
    words = tuple(vocabulary)
    labels = documents.labels
    return TopicCorpus(
        bags=bags,
        texts=tuple(" ".join(words[w] for w in rows[index]) for index in kept),
        labels=None if labels is None else labels[kept],
        label_names=documents.label_names,
        vocabulary=words,
        splits=np.array([documents.splits[index] for index in kept], dtype=np.str_),
        topics=documents.topics,
        warnings=(*documents.warnings, *_losses(documents, kept, min_words), *_unseen(bags)),
    )


def check_topics(topics: int, corpus: TopicCorpus, name: str = "topics") -> None:
    """Raise :class:`DataError` unless so many topics can be learnt from the corpus.

    At least 2, at most as many as the vocabulary has words and as there are documents.
    """
    if topics < 2:
        raise DataError(expected(name, topics, "be at least 2", f"{name} = 10"))
    for count, what in ((len(corpus.vocabulary), "words"), (len(corpus), "documents")):
        if topics > count:
            raise DataError(
                expected(name, topics, f"be at most the number of {what}, {count}",
                         f"{name} = {max(2, count // 10)}, or a larger corpus")
            )  # fmt: skip


def _octis_folder(source: str) -> Path | None:
    entry = catalogue().get(source)
    files = entry.local_files() if entry else {}
    folder = next(iter(files.values())).parent if files else Path(source)
    return folder if is_octis(folder) else None


def _read_raw(
    source: str, columns: Columns, settings: Preprocessing
) -> tuple[Documents, tuple[str, ...]]:
    (located,) = locate(source)
    read = read_source(located, columns, tuple(_RAW_SPLITS))
    tables = {split: read.tables[split] for split in _RAW_SPLITS if split in read.tables}
    texts = {split: table.text for split, table in tables.items()}
    places = tuple((t.origin, number) for t in tables.values() for number in t.number)
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    if all(table.label is not None for table in tables.values()):
        values = [_plain(value) for table in tables.values() for value in table.label or ()]
        labels, names = index_labels(values, read.labels, places)
    counter = vectoriser(settings)
    try:
        counter.fit(texts["train"])
    except ValueError as error:
        raise DataError(
            expected(
                f"min_df, max_df of {located.name}", (settings.min_df, settings.max_df),
                f"leave a vocabulary ({' '.join(str(error).split())})",
                "a smaller topics.preprocessing.min_df or a larger max_df",
            )
        ) from error  # fmt: skip
    cut = counter.build_analyzer()
    tokens = tuple(tuple(cut(text)) for rows in texts.values() for text in rows)
    splits = tuple(_RAW_SPLITS[split] for split, rows in texts.items() for _ in rows)
    documents = Documents(tokens, splits, places, labels, names, read.warnings)
    return documents, tuple(map(str, counter.get_feature_names_out()))


def _plain(value: object) -> str:
    text = "" if value is None else str(value).strip()
    return re.sub(r"\.0+$", "", text)


def _losses(documents: Documents, kept: Sequence[int], min_words: int) -> list[str]:
    kept_rows = set(kept)
    lost: dict[str, list[int]] = {}
    for index, (file, number) in enumerate(documents.places):
        if index not in kept_rows:
            lost.setdefault(file, []).append(number)
    few = "no word" if min_words <= 1 else f"fewer than {min_words} words"
    return [
        f"{len(rows)} documents of {file} have {few} of the vocabulary: rows {list_some(rows)} "
        "(dropped)"
        for file, rows in lost.items()
    ]


def _unseen(bags: Bags) -> list[str]:
    count = int((bags.sum(axis=0) == 0).sum())
    return [f"{count} words of the vocabulary are in no document"] if count else []

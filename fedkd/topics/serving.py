"""Asking a saved topic student about raw texts, with nothing but its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from fedkd.data.bags import vectoriser
from fedkd.models.determinism import single_thread
from fedkd.models.text_space import TextSpace
from fedkd.models.topic_files import load_text_space, load_topic_model
from fedkd.models.topic_network import TopicNetwork
from fedkd.models.topic_training import Documents, posterior, topic_words
from fedkd.topic_scenario import Preprocessing
from fedkd.topics.vocabulary import Vocabulary

FIRST_WORDS = 5
SHOWN = 3
SHOWN_TEXT = 60
DRAWS = 100


@dataclass(frozen=True)
class AskedTopics:
    """What a student says of texts, in their order.

    ``shares`` (texts, topics) float64, rows sum to one; not a number where ``known`` (texts,) is
    False: a text without a word that the student knows. ``words`` (topics) each topic's first.
    """

    shares: NDArray[np.float64]
    known: NDArray[np.bool_]
    words: tuple[tuple[str, ...], ...]


def ask_topics(folder: Path, texts: Sequence[str]) -> AskedTopics:
    """Return the topics of raw texts by the student in ``folder``.

    Texts are cut into words as the corpus was, see :func:`known_words`. A text's shares, the mean
    of softmax over draws from its posterior, do not depend on the texts beside it. Raises
    :class:`~fedkd.errors.ModelError` where the folder is not whole or its encoder is missing.
    """
    network, names, _ = load_topic_model(folder)
    space = None if network.shape.inputs == "bag" else load_text_space(folder)
    words = known_words(texts, _readable(network, names, space))
    known = np.array([bool(row) for row in words], np.bool_)
    shares = np.full((len(texts), network.shape.topics), np.nan)
    if known.any():
        read = [" ".join(row) for row in words if row]
        with single_thread():
            vectors = None if space is None else space.vectors(read)
            shares[known] = _shares(network, Documents(Vocabulary(names).bags(read), vectors))
    first = np.argsort(-topic_words(network), axis=1, kind="stable")[:, :FIRST_WORDS]
    return AskedTopics(shares, known, tuple(tuple(names[word] for word in row) for row in first))


def known_words(texts: Sequence[str], known: frozenset[str]) -> list[list[str]]:
    """Return each text's known words in their order; the others are left out.

    What stands between blanks is taken as it is, or in lower case, where that is a known word, as
    in a corpus that came in words. Anything else is cut as raw sources are: lower case, accents
    stripped, runs of three letters or more. For the vocabulary of a raw source both are the same.
    """
    cut = vectoriser(Preprocessing(stop_words=False)).build_analyzer()
    return [[word for part in text.split() for word in _cut(part, known, cut)] for text in texts]


def topic_lines(asked: AskedTopics, texts: Sequence[str]) -> list[str]:
    """Return the lines ``share  topic k  first words  | text``, the largest shares of each text.

    Topics are numbered from 1, as in the report.
    """
    lines = []
    topics = len(asked.words)
    digits, wide = len(str(topics)), max(len(" ".join(words)) for words in asked.words)
    for row, known, text in zip(asked.shares, asked.known, texts, strict=True):
        shown = shorten(text, SHOWN_TEXT, placeholder=" …")
        if not known:
            what = "no word that the student knows"
            lines.append(f"   –  {what:<{wide + digits + 8}}  | {shown}")
            continue
        for topic in np.argsort(-row, kind="stable")[:SHOWN]:
            words = " ".join(asked.words[topic])
            lines.append(
                f"{row[topic]:.2f}  topic {topic + 1:<{digits}}  {words:<{wide}}  | {shown}"
            )
    return lines


def _cut(part: str, known: frozenset[str], cut: Callable[[str], list[str]]) -> list[str]:
    for word in (part, part.lower()):
        if word in known:
            return [word]
    return [word for word in cut(part) if word in known]


def _readable(
    network: TopicNetwork, vocabulary: Sequence[str], space: TextSpace | None
) -> frozenset[str]:
    """Return the words that can change what this network answers."""
    if space is None or space.lsa is None:
        return frozenset(vocabulary)
    own = () if network.shape.inputs == "zero-shot" else vocabulary
    return frozenset((*own, *space.lsa.words))


def _shares(network: TopicNetwork, documents: Documents) -> NDArray[np.float64]:
    mean, log_variance = posterior(network, documents)
    spread, total = np.exp(0.5 * log_variance), np.zeros(mean.shape)
    for draw in np.random.default_rng(0).standard_normal((DRAWS, mean.shape[1])):
        z = mean + spread * draw
        z = np.exp(z - z.max(axis=1, keepdims=True))
        total += z / z.sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = total / DRAWS
    return found

"""Coherence equals gensim's, and its exact form equals a count by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkd.data.bags import load_topics
from fedkd.errors import DataError
from fedkd.metrics.topics import C_V_WINDOW, NPMI_WINDOW, c_v, count_windows, npmi, top_words

MEASURES = {"c_npmi": (npmi, NPMI_WINDOW), "c_v": (c_v, C_V_WINDOW)}


def gensim_coherence(name: str, texts, vocabulary, topics, window: int) -> np.ndarray:
    corpora = pytest.importorskip("gensim.corpora", reason="gensim is the oracle")
    from gensim.models import CoherenceModel

    tokens = [text.split() for text in texts]
    words = [[vocabulary[word] for word in topic] for topic in topics]
    model = CoherenceModel(
        topics=words, texts=tokens, dictionary=corpora.Dictionary(tokens), coherence=name,
        window_size=window, processes=1, topn=len(words[0]),
    )  # fmt: skip
    return np.array(model.get_coherence_per_topic())


def random_topics(counts: np.ndarray, topics: int, seed: int = 0, top: int = 10) -> np.ndarray:
    weights = np.random.default_rng(seed).random((topics, len(counts))) ** 3
    return top_words(weights * counts, top)


@pytest.mark.parametrize("name", ["c_npmi", "c_v"])
@pytest.mark.parametrize(
    ("corpus", "documents"), [("m10", 8355), ("20newsgroups", 1500), ("generated:topics", 2000)]
)
def test_coherence_is_gensims(
    request: pytest.FixtureRequest, corpus: str, documents: int, name: str
) -> None:
    if corpus != "generated:topics":
        folder: Path = request.getfixturevalue("real_data") / corpus
        if not (folder / "corpus.tsv").is_file():
            pytest.skip(f"{corpus} has no corpus.tsv")
    whole = load_topics(corpus)
    part = whole.take(np.arange(documents))
    topics = random_topics(np.asarray(part.bags.sum(axis=0)).ravel(), 12)
    measure, window = MEASURES[name]
    ours = measure(count_windows(part.texts, part.vocabulary, window), topics)
    theirs = gensim_coherence(name, part.texts, part.vocabulary, topics, window)
    np.testing.assert_allclose(ours.per_topic, theirs, rtol=0, atol=1e-12)
    assert ours.mean == pytest.approx(theirs.mean(), abs=1e-12)


@pytest.mark.parametrize("name", ["c_npmi", "c_v"])
@pytest.mark.parametrize("window", [3, 20])
def test_words_that_come_back_leave_as_they_do_in_gensim(name: str, window: int) -> None:
    draw = np.random.default_rng(5)
    vocabulary = [f"w{i}" for i in range(8)]
    texts = [
        " ".join(draw.choice([*vocabulary, "outside"], draw.integers(1, 60))) for _ in range(80)
    ]
    topics = np.array([[0, 1, 2, 3], [7, 5, 3, 1]])
    measure = MEASURES[name][0]
    theirs = gensim_coherence(name, texts, vocabulary, topics, window)
    ours = measure(count_windows(texts, vocabulary, window), topics).per_topic
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    exact = measure(count_windows(texts, vocabulary, window, "exact"), topics).per_topic
    assert np.abs(exact - theirs).max() > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), max_size=14), min_size=1, max_size=6), st.integers(2, 6)
)
def test_the_exact_count_is_the_count_by_hand(documents: list[list[int]], window: int) -> None:
    vocabulary = ["a", "b", "c", "d", "e"]  # word 5 is outside
    texts = [" ".join("abcdex"[word] for word in row) for row in documents]
    counts, windows = np.zeros((5, 5)), 0
    for row in documents:
        for at in range(max(1, len(row) - window + 1)):
            seen = sorted(set(row[at : at + window]) - {5})
            counts[np.ix_(seen, seen)] += 1
            windows += 1
    found = count_windows(texts, vocabulary, window, "exact")
    np.testing.assert_array_equal(found.counts, counts)
    assert found.windows == windows
    quirky = count_windows(texts, vocabulary, window).counts
    assert (quirky <= found.counts).all()
    if all(a != b for row in documents for a, b in pairwise(sorted(row))):
        np.testing.assert_array_equal(quirky, found.counts)


def test_word_numbers_and_topic_order_do_not_matter() -> None:
    corpus = load_topics("generated:topics")
    topics = random_topics(np.ones(220), 6)
    cooccurrence = count_windows(corpus.texts, corpus.vocabulary, 10)
    order = np.random.default_rng(1).permutation(220)
    turned = count_windows(corpus.texts, [corpus.vocabulary[i] for i in order], 10)
    renumbered = np.argsort(order)[topics][::-1]
    for measure in (npmi, c_v):
        np.testing.assert_allclose(
            measure(turned, renumbered).per_topic,
            measure(cooccurrence, topics).per_topic[::-1],
            atol=1e-12,
        )


def test_true_topics_are_more_coherent_than_random_ones() -> None:
    corpus = load_topics("generated:topics")
    assert corpus.topics is not None
    true, chance = top_words(corpus.topics), random_topics(np.ones(220), 10)
    for measure, window in MEASURES.values():
        counted = count_windows(corpus.texts, corpus.vocabulary, window)
        assert measure(counted, true).mean > measure(counted, chance).mean + 0.1


def test_words_that_never_occur_are_left_out() -> None:
    texts, vocabulary = ["a b c", "b c", "a d"], ["a", "b", "c", "d", "e", "f"]
    counted = count_windows(texts, vocabulary, 10)
    padded = npmi(counted, np.array([[0, 1, 2, 4]]))
    short = npmi(counted, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(padded.per_topic, short.per_topic, rtol=0, atol=1e-15)
    lost = npmi(counted, np.array([[0, 4, 5], [0, 1, 4]]))
    assert np.isnan(lost.per_topic[0])
    assert lost.mean == lost.per_topic[1]
    assert np.isnan(c_v(counted, np.array([[3, 4, 5]])).mean)


def test_what_cannot_be_measured_says_why() -> None:
    counted = count_windows(["a b"], ["a", "b"], 10)
    for topics, words in (
        (np.array([[0]]), "top >= 2"),
        (np.array([[0, 2]]), r"lie in 0\.\.1"),
        (np.array([[1, 1]]), "different words"),
    ):
        with pytest.raises(DataError, match=words):
            npmi(counted, topics)
    with pytest.raises(DataError, match="window=1"):
        count_windows(["a b"], ["a"], 1)
    with pytest.raises(DataError, match="at least 1 document"):
        count_windows([], ["a"], 10)

"""Laws of diversity, overlap, perplexity, alignment and downstream accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from fedkd.data.bags import load_topics
from fedkd.errors import DataError
from fedkd.metrics.topics import (
    alignment_quality,
    diversity,
    downstream_accuracy,
    irbo,
    perplexity,
    top_words,
)


def test_top_words_are_ordered_and_ties_go_to_the_earlier_word() -> None:
    assert top_words(np.array([[0.1, 0.5, 0.2, 0.5]]), 3).tolist() == [[1, 3, 2]]
    with pytest.raises(DataError, match="V >= 5"):
        top_words(np.ones((2, 4)), 5)


def test_diversity_runs_from_one_topic_to_all_different() -> None:
    apart = np.arange(40).reshape(4, 10)
    assert diversity(apart) == 1
    assert diversity(np.tile(apart[0], (4, 1))) == 1 / 4
    assert diversity(apart, top=5) == 1


def rank_biased_overlap(one: list[int], other: list[int], p: float) -> float:
    """Webber et al. 2010, eq. 32, word for word."""
    depth = len(one)
    shared = [len(set(one[:d]) & set(other[:d])) for d in range(1, depth + 1)]
    total = sum(x / d * p**d for d, x in enumerate(shared, start=1))
    return shared[-1] / depth * p**depth + (1 - p) / p * total


def test_irbo_is_one_minus_the_mean_rank_biased_overlap() -> None:
    draw = np.random.default_rng(0)
    topics = np.array([draw.permutation(18)[:10] for _ in range(7)])
    pairs = [(i, j) for i in range(7) for j in range(i)]
    for p in (0.5, 0.9):
        want = 1 - np.mean(
            [rank_biased_overlap(topics[i].tolist(), topics[j].tolist(), p) for i, j in pairs]
        )
        assert irbo(topics, p=p) == pytest.approx(want, abs=1e-12)
    assert irbo(topics[::-1]) == pytest.approx(irbo(topics), abs=1e-12)


def test_irbo_is_one_for_disjoint_and_zero_for_equal_lists() -> None:
    apart = np.arange(30).reshape(3, 10)
    assert irbo(apart) == pytest.approx(1, abs=1e-12)
    assert irbo(np.tile(apart[0], (3, 1))) == pytest.approx(0, abs=1e-12)
    swapped = np.array([apart[0], [1, 0, *range(2, 10)], [*range(8), 9, 8]])
    assert irbo(swapped[[0, 1]]) > irbo(swapped[[0, 2]]) > 0
    with pytest.raises(DataError, match="at least 2"):
        irbo(apart[:1])
    with pytest.raises(DataError, match="p=1"):
        irbo(apart, p=1.0)


def test_perplexity_of_a_uniform_guess_is_the_vocabulary() -> None:
    assert perplexity(50 * np.log(1 / 220), 50) == pytest.approx(220)
    assert perplexity(0.0, 3) == 1
    for total, words in ((-1.0, 0), (1.0, 5), (float("nan"), 5)):
        with pytest.raises(DataError):
            perplexity(total, words)


def test_alignment_finds_a_shuffle_and_pays_for_what_is_missing() -> None:
    true = np.random.default_rng(0).dirichlet(np.full(60, 0.1), size=8)
    order = np.random.default_rng(1).permutation(8)
    whole = alignment_quality(true[order], true)
    np.testing.assert_array_equal(order[whole.found], whole.true)
    assert whole.mean_overlap == pytest.approx(1)
    assert whole.mean_top_overlap == 1
    assert alignment_quality(true[:6], true).mean_overlap == pytest.approx(6 / 8)
    extra = np.vstack([np.full((3, 60), 1 / 60), true[order]])
    assert alignment_quality(extra, true).mean_overlap == pytest.approx(1)
    blurred = alignment_quality(0.6 * true + 0.4 / 60, true)
    assert 0.6 < blurred.mean_overlap < 1


def test_alignment_asks_for_distributions_over_the_same_words() -> None:
    true = np.full((2, 4), 0.25)
    with pytest.raises(DataError, match="be distributions"):
        alignment_quality(2 * true, true)
    with pytest.raises(DataError, match=r"found\.shape"):
        alignment_quality(np.full((2, 5), 0.2), true)


def test_accuracy_follows_what_the_proportions_tell() -> None:
    corpus = load_topics("generated:topics")
    assert corpus.labels is not None
    assert corpus.topics is not None
    theta = corpus.bags @ corpus.topics.T
    theta = theta / theta.sum(axis=1, keepdims=True)
    told = downstream_accuracy(theta, corpus.labels, corpus.splits)
    assert told > 0.95
    shuffled = np.random.default_rng(0).permutation(theta)
    assert downstream_accuracy(shuffled, corpus.labels, corpus.splits) < 0.35
    unknown = corpus.labels.copy()
    unknown[(corpus.splits == "train") & (corpus.labels > 0)] = -1
    with pytest.raises(DataError, match="two classes"):
        downstream_accuracy(theta, unknown, corpus.splits)

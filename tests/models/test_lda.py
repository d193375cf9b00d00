"""LDA finds topics that are known, and says the same twice."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import sparse

from fedkd.data.bags import load_topics
from fedkd.errors import ModelError
from fedkd.metrics.topics import alignment_quality, downstream_accuracy, perplexity
from fedkd.models.lda import fit_lda, fold_in, word_log_likelihood


@pytest.fixture(scope="module")
def corpus():
    return load_topics("generated:topics")


def test_lda_finds_the_true_topics_and_repeats_itself(corpus) -> None:
    pytest.importorskip("tomotopy", reason="the extra `topics` is not installed")
    train, test = corpus.part("train"), corpus.part("test")
    first, second = (fit_lda(train.bags, 10, seed=3, iterations=150) for _ in range(2))
    np.testing.assert_array_equal(first.topics, second.topics)
    np.testing.assert_array_equal(first.theta, second.theta)
    np.testing.assert_allclose(first.topics.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(first.theta.sum(axis=1), 1, atol=1e-12)
    assert alignment_quality(first.topics, corpus.topics).mean_overlap > 0.7
    theta = fold_in(test.bags, first.topics, first.alpha)
    held = perplexity(word_log_likelihood(test.bags, theta, first.topics), test.bags.sum())
    chance = perplexity(
        word_log_likelihood(test.bags, np.full_like(theta, 0.1), first.topics), test.bags.sum()
    )
    assert 1 < held < chance < 230
    both = np.vstack([first.theta, theta])
    labels = np.concatenate([train.labels, test.labels])
    assert downstream_accuracy(both, labels, np.append(train.splits, test.splits)) > 0.8


def test_unseen_words_and_empty_documents_keep_the_prior() -> None:
    pytest.importorskip("tomotopy", reason="the extra `topics` is not installed")
    counts = np.zeros((6, 5), np.float32)
    counts[[0, 1, 2], 0], counts[[3, 4], 1], counts[:5, 2] = 4, 4, 1
    fitted = fit_lda(sparse.csr_array(counts), 2, seed=0, iterations=50)
    assert (fitted.topics > 0).all()
    assert fitted.topics[:, 3:].max() < fitted.topics[:, :3].max() / 10
    np.testing.assert_allclose(fitted.theta[5], fitted.alpha / fitted.alpha.sum())


def test_folding_in_recovers_clear_proportions_document_by_document() -> None:
    topics = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    counts = sparse.csr_array(np.array([[30, 30, 20, 20], [9, 1, 0, 0], [0, 0, 0, 0]], np.float32))
    theta = fold_in(counts, topics, np.full(2, 0.1))
    np.testing.assert_allclose(theta[0], [0.6, 0.4], atol=0.01)
    assert theta[1, 0] > 0.98
    np.testing.assert_allclose(theta[2], 0.5)
    np.testing.assert_allclose(fold_in(counts[[1]], topics, np.full(2, 0.1))[0], theta[1])


def test_the_likelihood_is_the_sum_by_hand() -> None:
    draw = np.random.default_rng(0)
    theta, topics = draw.dirichlet(np.ones(3), 4), draw.dirichlet(np.ones(6), 3)
    counts = draw.integers(0, 3, (4, 6)).astype(np.float32)
    found = word_log_likelihood(sparse.csr_array(counts), theta, topics)
    assert found == pytest.approx((counts * np.log(theta @ topics)).sum(), rel=1e-12)


def test_what_cannot_be_fitted_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    bags = sparse.csr_array(np.eye(3, 6, dtype=np.float32))
    for topics, words in ((1, "at least 2"), (4, "documents with words, 3"), (7, "words, 6")):
        with pytest.raises(ModelError, match=words):
            fit_lda(bags, topics, seed=0)
    with pytest.raises(ModelError, match="whole counts"):
        fit_lda(bags * np.float32(0.5), 2, seed=0)
    monkeypatch.setitem(sys.modules, "tomotopy", None)
    with pytest.raises(ModelError, match=r"fedkd\[topics\]"):
        fit_lda(bags, 2, seed=0)

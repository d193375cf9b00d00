"""Latent Dirichlet allocation by tomotopy, to set beside neural topic models."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import digamma

from fedkd.errors import ModelError, expected

Floats = NDArray[np.float64]
ITERATIONS, FOLD_IN_STEPS = 500, 50
_BLOCK = 1024


@dataclass(frozen=True)
class Lda:
    """``topics`` (K, V) and ``theta`` (documents, K), rows sum to 1; ``alpha`` (K,) as learnt."""

    topics: Floats
    theta: Floats
    alpha: Floats


def fit_lda(bags: sparse.csr_array, topics: int, *, seed: int, iterations: int = ITERATIONS) -> Lda:
    """Fit by collapsed Gibbs sampling (Griffiths & Steyvers, PNAS 2004) with one worker.

    ``bags`` (documents, V) are whole counts. α starts at 0.1 and is optimised as tomotopy does, η
    is 0.01. The same seed gives the same topics on one kind of processor. Words that no document
    holds have the mass that η gives them; an empty document has the mean of the prior.
    Raises :class:`ModelError` where tomotopy is missing, or for fewer words or documents than
    topics.
    """
    _check(bags, topics)
    tomotopy = _tomotopy()
    model = tomotopy.LDAModel(k=topics, alpha=0.1, eta=0.01, seed=seed % 2**31)
    sizes = np.diff(bags.indptr)
    words = np.repeat(bags.indices, bags.data.astype(np.int64)).astype(str)
    ends = np.cumsum(bags.sum(axis=1).astype(np.int64))
    full = np.flatnonzero(sizes)
    for row in full:
        model.add_doc(words[ends[row - 1] if row else 0 : ends[row]].tolist())
    # The default scheme splits the vocabulary among workers; with one there is nothing to split.
    model.train(iterations, workers=1, parallel=tomotopy.ParallelScheme.NONE)
    alpha = np.asarray(model.alpha, np.float64)
    theta = np.tile(alpha / alpha.sum(), (bags.shape[0], 1))
    theta[full] = [document.get_topic_dist() for document in model.docs]
    theta /= theta.sum(axis=1, keepdims=True)
    return Lda(_topics(model, bags.shape[1]), theta, alpha)


def fold_in(bags: sparse.csr_array, topics: Floats, alpha: Floats) -> Floats:
    """Return topic proportions (documents, K) of further documents, the topics staying as they are.

    The mean of the variational posterior of Blei et al., JMLR 2003, eqs. 6–7, after 50 updates
    from the prior; nothing is drawn, so a document's proportions do not depend on the others.
    """
    theta = np.empty((bags.shape[0], len(alpha)))
    for start in range(0, bags.shape[0], _BLOCK):
        block = sparse.csr_array(bags[start : start + _BLOCK])
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        words = topics.T[block.indices]
        gamma = alpha + block.sum(axis=1)[:, None] / len(alpha)
        for _ in range(FOLD_IN_STEPS):
            weight = np.exp(digamma(gamma) - digamma(gamma.sum(axis=1, keepdims=True)))
            norm = np.einsum("nk,nk->n", weight[rows], words)
            ratio = sparse.csr_array(
                (block.data / np.maximum(norm, 1e-300), block.indices, block.indptr), block.shape
            )
            gamma = alpha + weight * (ratio @ topics.T)
        theta[start : start + _BLOCK] = gamma / gamma.sum(axis=1, keepdims=True)
    return theta


def word_log_likelihood(bags: sparse.csr_array, theta: Floats, topics: Floats) -> float:
    """Return Σ_dv x_dv log Σ_k θ_dk β_kv (natural logarithm) of documents (documents, V)."""
    total = 0.0
    for start in range(0, bags.shape[0], _BLOCK):
        block = sparse.csr_array(bags[start : start + _BLOCK])
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)) + start
        chance = np.einsum("nk,nk->n", theta[rows], topics.T[block.indices])
        total += float(block.data @ np.log(np.maximum(chance, 1e-300)))
    return total


def _topics(model: Any, words: int) -> Floats:
    used = np.array([int(word) for word in model.used_vocabs])
    counts = np.asarray(model.get_count_by_topics(), np.float64)[:, None]
    found = np.array([model.get_topic_word_dist(k) for k in range(model.k)], np.float64)
    # tomotopy spreads η over the words that occur; here it is spread over the whole vocabulary.
    topics = np.full((model.k, words), model.eta)
    topics[:, used] = found * (counts + len(used) * model.eta)
    normal: Floats = topics / topics.sum(axis=1, keepdims=True)
    return normal


def _tomotopy() -> Any:
    try:
        return importlib.import_module("tomotopy")
    except ImportError as error:
        raise ModelError(
            expected("model", "lda", "find the package tomotopy", "pip install 'fedkd[topics]'")
        ) from error


def _check(bags: sparse.csr_array, topics: int) -> None:
    if topics < 2:
        raise ModelError(expected("topics", topics, "be at least 2", "topics = 10"))
    held = int((np.diff(bags.indptr) > 0).sum())
    for count, what in ((bags.shape[1], "words"), (held, "documents with words")):
        if topics > count:
            raise ModelError(
                expected("topics", topics, f"be at most the number of {what}, {count}",
                         "fewer topics or a larger corpus")
            )  # fmt: skip
    if (bags.data != np.floor(bags.data)).any() or (bags.data < 1).any():
        low = float(bags.data.min())
        raise ModelError(
            expected("bags: smallest entry", low, "be whole counts of at least 1", "raw counts")
        )

"""Asking a topic model about documents: what it answers, how well it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedkd.models.topic_network import TopicNetwork
from fedkd.models.topic_training import (
    Documents,
    log_likelihoods,
    posterior,
    shares,
    topic_words,
    word_shares,
)
from fedkd.topics.method import TopicQuestion
from fedkd.topics.release import MOST_LOG_VARIANCE, TOP
from fedkd.topics.upload import TopWords, background, coding_error, decode_top, encode_top

Floats = NDArray[np.floating]
Arrays = dict[str, NDArray[np.generic]]
SMOOTHING = 0.01
SAMPLES = 10


def answer_question(
    network: TopicNetwork,
    documents: Documents,
    question: TopicQuestion,
    *,
    samples: int,
    keep: int | None,
    seed: int,
) -> tuple[Arrays, Arrays, dict[str, float]]:
    """Return a party's summary and its answer on every document, as they leave, and their error.

    The summary is the mean word distribution, each topic's ten first words and its share of the
    documents; ``keep`` None sends whole distributions. The error is what encoding costs a
    document: mean and largest total variation, and mean KL in nats.
    """
    mean, log_variance = posterior(network, documents)
    log_variance = np.clip(log_variance, -MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)
    words = word_shares(
        network,
        mean,
        log_variance,
        samples=samples,
        seed=seed,
        temperature=question.temperature,
        normalised=question.soft_label == "bn",
    )
    base = background(words)
    use = np.exp(mean - mean.max(axis=1, keepdims=True))
    use /= use.sum(axis=1, keepdims=True)
    first = np.argsort(-topic_words(network), axis=1, kind="stable")[:, :TOP]
    summary: Arrays = {
        "background": base,
        "mass": use.mean(axis=0).astype(np.float32),
        "top_words": first.astype(np.uint16),
    }
    rows: Arrays = {
        "mean": mean.astype(np.float16),
        "log_variance": log_variance.astype(np.float16),
    }
    if keep is None:
        rows["words"] = words.astype(np.float16)
    else:
        top = encode_top(words, base, keep)
        rows |= {"ids": top.ids, "codes": top.codes, "range": top.range}
    return summary, rows, coding_error(words, read_words(rows, base))


def read_words(rows: Arrays, base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the word distributions (documents, words) float32 of an answer."""
    if "words" in rows:
        words = np.asarray(rows["words"], np.float32)
        whole: NDArray[np.float32] = words / words.sum(axis=1, keepdims=True)
        return whole
    top = TopWords(
        np.asarray(rows["ids"], np.uint16),
        np.asarray(rows["codes"], np.uint8),
        np.asarray(rows["range"], np.float16),
    )
    return decode_top(top, base)


@dataclass(frozen=True)
class Prediction:
    """Σ x log p over held-out documents, and Σ x."""

    log_likelihood: NDArray[np.float64]
    words: NDArray[np.float64]


def predict_words(network: TopicNetwork, documents: Documents) -> Prediction:
    """Return how likely the model holds each document, 10 draws of its topic shares.

    Every distribution is mixed with 1 % of the uniform one: a word that a party never saw would
    otherwise make its perplexity infinite.
    """
    mean, log_variance = posterior(network, documents)
    words = word_shares(network, mean, log_variance, samples=SAMPLES, seed=0)
    return prediction(words, documents.bags)


def prediction(words: Floats, bags: csr_array) -> Prediction:
    """Return the log-likelihood of each document under its word distribution, smoothed."""
    smooth = (1 - SMOOTHING) * np.asarray(words, np.float64) + SMOOTHING / words.shape[1]
    return Prediction(log_likelihoods(smooth, bags), np.asarray(bags.sum(axis=1), np.float64))


def topic_shares(network: TopicNetwork, documents: Documents) -> Floats:
    """Return θ (documents, topics): the mean over 10 draws."""
    return shares(*posterior(network, documents), SAMPLES, 0)


def load_arrays(path: Path) -> Arrays:
    """Return the arrays of an npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}

"""How much each teacher's word on each document counts."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedkd.models.topic_training import log_likelihoods

TopicWeights = Literal["uniform", "size", "confidence", "likelihood"]
FLOOR = 1e-9
LEAST = -600.0  # exp of less is 0, and a document must keep a weight


def document_weights(
    kind: TopicWeights,
    words: NDArray[np.floating],
    bags: csr_array,
    *,
    size: float,
    tau: float = 1.0,
) -> NDArray[np.float64]:
    """Return one party's weight on every public document (documents,), not yet made to sum to one.

    ``uniform`` 1; ``size`` the party's number of documents; ``confidence`` size times the distance
    ‖√q − √b‖ of its answer from its mean answer b, as KNOT weighs (Bhardwaj et al., COLING 2022);
    ``likelihood`` size times exp(τ · mean log-likelihood a word of the public text under q).
    """
    ones = np.ones(len(words))
    match kind:
        case "uniform":
            return ones
        case "size":
            return size * ones
        case "confidence":
            base = np.asarray(words, np.float64).mean(axis=0)
            gap = np.sqrt(np.asarray(words, np.float64)) - np.sqrt(base)
            far: NDArray[np.float64] = size * np.sqrt((gap * gap).sum(axis=1)) + FLOOR
            return far
        case "likelihood":
            total = log_likelihoods(np.maximum(words, FLOOR), bags)
            length = np.maximum(np.asarray(bags.sum(axis=1)), 1)
            fit: NDArray[np.float64] = np.exp(np.maximum(tau * total / length, LEAST))
            return size * fit

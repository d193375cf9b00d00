"""Small documents and answers that several tests share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedkd.models.topic_network import TopicShape
from fedkd.models.topic_training import Documents

WORDS, WIDTH, TOPICS = 40, 6, 4


def documents(count: int = 90, seed: int = 0, dtype: str = "float32") -> Documents:
    draw = np.random.default_rng(seed)
    theta = draw.dirichlet(np.full(TOPICS, 0.2), count)
    phi = draw.dirichlet(np.full(WORDS, 0.1), TOPICS)
    counts = np.stack([draw.multinomial(12, p) for p in theta @ phi])
    bags = csr_array(counts.astype(dtype))
    bags.sort_indices()
    return Documents(bags, (theta @ draw.standard_normal((TOPICS, WIDTH))).astype(dtype))


def shape(inputs: str = "zero-shot", **changes: object) -> TopicShape:
    values = {"inputs": inputs, "words": WORDS, "topics": TOPICS, "vectors": WIDTH, "hidden": (8,)}
    return TopicShape(**values | changes)  # type: ignore[arg-type]


def answers(
    seed: int, count: int = 60, topics: int = TOPICS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return latents (documents, topics), deviations and word distributions of a party."""
    draw = np.random.default_rng(seed)
    mean = draw.standard_normal((count, topics))
    spread = draw.uniform(0.2, 1.2, (count, topics))
    use = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    return mean, spread, use @ draw.dirichlet(np.full(WORDS, 0.1), topics)

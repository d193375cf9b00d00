"""Topic models by their place in a federation: building, training and asking them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedkd.errors import DataError, ModelError, expected
from fedkd.models.text_vectors import encoder_parameters, text_vectors
from fedkd.models.topic_network import TopicNetwork, TopicShape, build_network, parameter_counts
from fedkd.models.topic_training import (
    Documents,
    Objective,
    TopicHistory,
    TopicTraining,
    elbo,
    fit_topics,
)
from fedkd.release import fingerprint
from fedkd.topic_scenario import TopicFields, TopicInputs

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Recipe:
    """A topic model with every value given."""

    inputs: TopicInputs
    topics: int
    hidden: tuple[int, ...] | None
    published: bool
    dropout: float
    encoder: str
    training: TopicTraining

    def shape(self, words: int, vectors: int) -> TopicShape:
        """Return the network's shape; ``hidden`` None is one layer as wide as the vocabulary."""
        return TopicShape(
            inputs=self.inputs,
            words=words,
            topics=self.topics,
            vectors=vectors,
            hidden=(words,) if self.hidden is None else self.hidden,
            adapt=self.published and self.inputs == "combined",
            dropout=self.dropout,
        )


def recipe(model: TopicFields, *, inputs: TopicInputs, encoder: str) -> Recipe:
    """Return the model with absent values filled; ``inputs`` and ``encoder`` are the defaults."""
    hidden: tuple[int, ...] | None = (100, 100)
    if model.hidden is not None:
        hidden = None if model.hidden == "vocabulary" else tuple(model.hidden)
    return Recipe(
        inputs=model.inputs or inputs,
        topics=20 if model.topics is None else model.topics,
        hidden=hidden,
        published=model.arch == "published",
        dropout=0.2 if model.dropout is None else model.dropout,
        encoder=model.encoder or encoder,
        training=TopicTraining(
            epochs=model.epochs or 100,
            batch=model.batch_size or 64,
            rate=model.learning_rate or 2e-3,
        ),
    )


def vector_file(name: str, encoder: str) -> str:
    """Return the file name under which the vectors of a set of texts lie ready."""
    return f"{name}-{fingerprint([encoder])[:12]}.npy"


def vectors_for(
    recipe: Recipe, folder: Path, name: str, texts: Sequence[str], public: Sequence[str]
) -> Floats | None:
    """Return the texts' vectors, or None for a model that reads bags alone.

    The ``vector_file`` in ``folder`` is taken where it is there; else they are computed once,
    an LSA encoder fitted on the ``public`` texts.
    """
    if recipe.inputs == "bag":
        return None
    ready = folder / vector_file(name, recipe.encoder)
    if not ready.is_file():
        return text_vectors(texts, recipe.encoder, folder / "cache", fit_texts=public)
    found: Floats = np.load(ready, mmap_mode="r", allow_pickle=False)
    if len(found) != len(texts):
        raise DataError(
            expected(ready.name, len(found), f"hold {len(texts)} vectors", "making it again")
        )
    return found


def count_parameters(recipe: Recipe, shape: TopicShape, public: Sequence[str]) -> dict[str, int]:
    """Return how many numbers a model holds: as built, collapsed, published, ``with_encoder``.

    The last is left out where vectors lie ready and the encoder itself is not there to be counted.
    """
    counts = parameter_counts(shape)
    try:
        more = 0 if recipe.inputs == "bag" else encoder_parameters(recipe.encoder, public)
    except ModelError:
        return counts
    return counts | {"with_encoder": counts["built"] + more}


def train_model(
    recipe: Recipe,
    bags: csr_array,
    vectors: Floats | None,
    *,
    seed: int,
    support: NDArray[np.bool_] | None = None,
    beta: Floats | None = None,
    objective: Objective = elbo,
    each_epoch: Callable[[int, TopicNetwork], None] | None = None,
    progress: str | None = None,
) -> tuple[TopicNetwork, TopicHistory]:
    """Return a trained network; ``beta`` (topics, words) are topics to start from.

    Documents without a word are left out. Raises :class:`DataError` for fewer documents than
    topics, and for a support of fewer words than topics.
    """
    full = np.flatnonzero(np.diff(bags.indptr))
    words = bags.shape[1] if support is None else int(support.sum())
    for name, value in (("documents with words", len(full)), ("words of its own", words)):
        if value < recipe.topics:
            raise DataError(
                expected(name, value, f"be at least topics={recipe.topics}", "fewer topics")
            )
    if objective is elbo:
        bags, vectors = bags[full], None if vectors is None else vectors[full]
    width = 0 if vectors is None or recipe.inputs == "bag" else int(vectors.shape[1])
    network = build_network(recipe.shape(int(bags.shape[1]), width), seed)
    if support is not None:
        network.restrict(torch.from_numpy(support))
    if beta is not None:
        count = min(len(beta), recipe.topics)
        with torch.no_grad():
            network.beta[:count] = torch.from_numpy(np.asarray(beta[:count], np.float32))
    history = fit_topics(
        network,
        Documents(bags, vectors if recipe.inputs != "bag" else None),
        recipe.training,
        seed=seed,
        objective=objective,
        each_epoch=each_epoch,
        progress=progress,
    )
    return network, history

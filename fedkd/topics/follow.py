"""Latents that follow the student: which topic is which is asked again while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkd.models.topic_network import Bags, Pass, TopicNetwork
from fedkd.models.topic_training import Documents, Terms, posterior, word_shares
from fedkd.topics.aggregate import Consensus, TopicAggregator
from fedkd.topics.alignment import (
    AlignCost,
    TopicFeatures,
    carry,
    hellinger,
    topic_cost,
    topic_features,
    transport_plan,
)
from fedkd.topics.objective import Distillation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Latents:
    """One party's latents on the public documents, its topics' features and its weights."""

    mean: Floats
    spread: Floats
    features: TopicFeatures
    weight: Floats


@dataclass
class Follower:
    """A distillation that adds latent targets, carried onto the student's own topics.

    Every ``refresh`` epochs, after as many without latents, each party's topics are matched with
    the student's one to one; a pair further apart than ``limit`` (Hellinger) is not taught. The
    latents are transported along the match before their barycentre is taken, so W₂² compares
    topics that mean the same now.
    """

    distillation: Distillation
    parties: Sequence[Latents]
    documents: Documents
    cost: AlignCost
    latent: float = 0.1
    refresh: int = 5
    limit: float | None = None
    kappa: float | None = None
    standardise: bool = True
    _now: Distillation = field(init=False)

    def __post_init__(self) -> None:
        self._now = self.distillation

    def __call__(
        self, network: TopicNetwork, done: Pass, bags: Bags, rows: Tensor
    ) -> tuple[Tensor, Terms]:
        """Return the loss with the latest targets."""
        return self._now(network, done, bags, rows)

    def each_epoch(self, epoch: int, network: TopicNetwork) -> None:
        """Match anew where it is time."""
        if epoch == 0 or epoch % self.refresh:
            return
        mean, log_variance = posterior(network, self.documents)
        words = word_shares(network, mean, log_variance, samples=1, seed=epoch)
        vectors = self.documents.vectors if self.cost.places else None
        student = topic_features(
            np.asarray(mean, np.float64),
            words,
            None if vectors is None else np.asarray(vectors, np.float64),
        )
        found = gather(self.parties, student, self.cost, self.limit)
        covered = torch.from_numpy(found.covered)
        if not bool(covered.any()):
            return
        taught = found.standardised() if self.standardise else found
        targets = replace(
            self.distillation.targets,
            mean=torch.from_numpy(taught.mean.astype(np.float32)),
            spread=torch.from_numpy(taught.spread.astype(np.float32)),
            covered=covered,
        )
        if self.kappa is not None:
            u = found.emphasis(self.kappa).astype(np.float32)
            targets = replace(targets, emphasis=torch.from_numpy(u))
        self._now = replace(self.distillation, targets=targets, latent=self.latent)


def gather(
    parties: Sequence[Latents], student: TopicFeatures, cost: AlignCost, limit: float | None
) -> Consensus:
    """Return the barycentre of the parties' latents, each carried onto the student's topics."""
    topics = len(student.mass)
    gathered = TopicAggregator(len(parties[0].mean), 1, topics)
    blank = np.ones((len(parties[0].mean), 1))
    for party in parties:
        price = topic_cost(party.features, student, cost)
        plan = transport_plan(price, party.features.mass, student.mass, "permutation")
        chart = np.where(plan > 0, 1.0, 0.0)
        if limit is not None:
            chart *= hellinger(party.features.words, student.words) <= limit
        mean, spread = carry(party.mean, party.spread, chart)
        gathered.add(party.weight, blank, mean, spread, covered=chart.sum(axis=0) > 0)
    return gathered.close()

"""Bringing the teachers' answers together as they come, in memory that does not grow with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import QuorumError, expected

Floats = NDArray[np.float64]
TINY, SMALL = 1e-300, 1e-12


@dataclass(frozen=True)
class Consensus:
    """What all teachers together say of each document.

    ``words`` (documents, words) is Σ w_n q_n. ``mean`` and ``spread`` (documents, topics) are the
    Wasserstein barycentre of the Gaussians, Σ w_n μ_n and Σ w_n s_n, and ``disagreement``
    (documents,) is Σ w_n W₂²(N_n, barycentre). ``covered`` marks topics that any teacher has.
    """

    words: Floats
    mean: Floats
    spread: Floats
    disagreement: Floats
    covered: NDArray[np.bool_]

    def standardised(self) -> Consensus:
        """Return it with latents of mean 0, deviation 1 and log deviations of mean 0 a topic.

        Averages of latents vary less than each did, and the student's batch norm cannot follow
        them there: the part of W₂² that stays then pulls on its topics for nothing.
        """
        width = np.maximum(self.mean.std(axis=0), SMALL)
        log_spread = np.log(np.maximum(self.spread, SMALL))
        return replace(
            self,
            mean=(self.mean - self.mean.mean(axis=0)) / width,
            spread=np.exp(log_spread - log_spread.mean(axis=0)),
        )

    def emphasis(self, kappa: float) -> Floats:
        """Return exp(−D_d/(κ · median D)): documents on which teachers disagree count less."""
        middle = float(np.median(self.disagreement))
        found: Floats = np.exp(-self.disagreement / max(kappa * middle, TINY))
        return found


@dataclass
class TopicAggregator:
    """Adds teachers one by one; holds O(2·topics + words) numbers a document, however many.

    It rests on two identities: Σ w_n CE(q_n, p) = CE(Σ w_n q_n, p), and Σ w_n W₂²(N_n, S) =
    W₂²(barycentre, S) + a constant, with the weights made to sum to one over the teachers that
    answered (for latents: over those that have the topic).
    """

    documents: int
    words: int
    topics: int = 0
    _sums: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wide, deep = (self.documents, self.words), (self.documents, self.topics)
        shapes = {"words": wide, "weight": (self.documents,), "mean": deep, "spread": deep}
        shapes |= {"square": deep, "cover": deep}
        self._sums = {name: np.zeros(shape) for name, shape in shapes.items()}

    def add(
        self,
        weight: Floats,
        words: NDArray[np.floating],
        mean: Floats | None = None,
        spread: Floats | None = None,
        *,
        covered: NDArray[np.bool_] | None = None,
        rows: slice = slice(None),
    ) -> None:
        """Add one teacher's answer on these documents; ``weight`` (documents,) is not negative."""
        sums, w = self._sums, weight[:, None]
        sums["words"][rows] += w * words
        sums["weight"][rows] += weight
        if mean is None or spread is None:
            return
        there = np.ones(self.topics, bool) if covered is None else covered
        sums["cover"][rows] += w * there
        sums["mean"][rows] += w * np.where(there, mean, 0)
        sums["spread"][rows] += w * np.where(there, spread, 0)
        sums["square"][rows] += w * np.where(there, mean**2 + spread**2, 0)

    def close(self) -> Consensus:
        """Return the consensus; raises :class:`QuorumError` for a document nobody spoke of."""
        sums = self._sums
        silent = int((sums["weight"] <= 0).sum())
        if silent:
            raise QuorumError(
                expected("documents without an answer", silent, "be 0", "a larger quorum")
            )
        cover = np.maximum(sums["cover"], TINY)
        mean, spread = sums["mean"] / cover, sums["spread"] / cover
        loose = np.maximum(sums["square"] / cover - mean**2 - spread**2, 0)
        return Consensus(
            words=sums["words"] / sums["weight"][:, None],
            mean=mean,
            spread=spread,
            disagreement=loose.sum(axis=1),
            covered=sums["cover"].sum(axis=0) > 0,
        )

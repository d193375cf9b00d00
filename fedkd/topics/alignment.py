"""Which topic of one party is which of another: features from the answers, and transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import ot
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fedkd.errors import ScenarioError, expected

Floats = NDArray[np.float64]
Plan = Literal["index", "permutation", "soft", "unbalanced"]
TINY = 1e-12
ROUNDS = 5


@dataclass(frozen=True)
class TopicFeatures:
    """What identifies a topic by its use on the public documents alone.

    ``activity`` (topics, documents) standardised latent means; ``words`` (topics, words) the mean
    word distribution of the documents that use it; ``places`` (topics, width) the mean of their
    text vectors, or None; ``mass`` (topics,) its share of all documents.
    """

    activity: Floats
    words: Floats
    places: Floats | None
    mass: Floats


@dataclass(frozen=True)
class AlignCost:
    """How much each feature counts; each cost is divided by its median first."""

    activity: float = 1.0
    words: float = 1.0
    places: float = 0.0


@dataclass(frozen=True)
class Alignment:
    """Each party's map onto the common topics.

    ``maps[n]`` (its topics, common topics): columns sum to one, or are zero where the party has no
    such topic. ``distance[n]`` (common topics,) is the Hellinger distance between its topic and
    the common one. ``common`` are the common topics' features.
    """

    maps: tuple[Floats, ...]
    distance: tuple[Floats, ...]
    common: TopicFeatures

    def covered(self, party: int) -> NDArray[np.bool_]:
        """Return which common topics this party has."""
        found: NDArray[np.bool_] = self.maps[party].sum(axis=0) > 0
        return found


def standardise(mean: Floats, log_variance: Floats) -> tuple[Floats, Floats]:
    """Return latents with mean 0 and deviation 1, and log variances with mean 0, over documents.

    The student's batch norm has exactly these marginals; others would be out of its reach.
    """
    spread = np.maximum(mean.std(axis=0), TINY)
    return (mean - mean.mean(axis=0)) / spread, log_variance - log_variance.mean(axis=0)


def topic_features(
    mean: Floats, words: NDArray[np.floating], vectors: Floats | None = None
) -> TopicFeatures:
    """Return the features of a party's topics from latents and word distributions (documents, …).

    A document uses topic k by softmax(mean)_k.
    """
    use = np.exp(mean - mean.max(axis=1, keepdims=True))
    use /= use.sum(axis=1, keepdims=True)
    mass = use.mean(axis=0)
    weight = use / np.maximum(use.sum(axis=0), TINY)
    # Every document holds a little of every topic: what all share would hide what differs.
    sharp = weight**2 / np.maximum((weight**2).sum(axis=0), TINY)
    typical = sharp.T @ np.asarray(words, np.float64)
    profile = ((mean - mean.mean(axis=0)) / np.maximum(mean.std(axis=0), TINY)).T
    places = None if vectors is None else sharp.T @ np.asarray(vectors, np.float64)
    return TopicFeatures(profile, typical, places, mass)


def topic_cost(a: TopicFeatures, b: TopicFeatures, cost: AlignCost) -> Floats:
    """Return (topics of a, topics of b): correlation, Hellinger and cosine distances, mixed."""
    total = np.zeros((len(a.mass), len(b.mass)))
    parts: list[tuple[float, Callable[[], Floats]]] = [
        (cost.activity, lambda: 1 - _cosine(a.activity, b.activity)),
        (cost.words, lambda: hellinger(a.words, b.words) ** 2),
        (cost.places, lambda: 1 - _cosine(_centred(a.places), _centred(b.places))),
    ]
    for weight, found in parts:
        if weight:
            one = found()
            total += weight * one / max(float(np.median(one)), TINY)
    return total


def hellinger(a: Floats, b: Floats) -> Floats:
    """Return √(1 − Σ √(a_v b_v)) of every pair of rows, each made to sum to one."""
    roots = [np.sqrt(x / np.maximum(x.sum(axis=1, keepdims=True), TINY)) for x in (a, b)]
    found: Floats = np.sqrt(np.maximum(1 - roots[0] @ roots[1].T, 0))
    return found


def transport_plan(
    cost: Floats, a: Floats, b: Floats, plan: Plan, *, epsilon: float = 0.05, unmatched: float = 1.0
) -> Floats:
    """Return the plan (rows, columns) between topic masses ``a`` and ``b``.

    ``permutation`` matches one to one as far as there are topics (Hungarian method), ``soft`` is
    entropic transport with ε in units of the median cost, ``unbalanced`` lets mass stay where a
    match costs more than ``unmatched``, ``index`` pairs topics by their numbers, which means
    nothing and is there to be compared with.
    """
    rows, columns = cost.shape
    if plan in ("index", "permutation"):
        count = min(rows, columns)
        pairs = (
            (np.arange(count), np.arange(count)) if plan == "index" else linear_sum_assignment(cost)
        )
        found = np.zeros_like(cost)
        found[pairs] = 1 / count
        return found
    scaled = cost / max(float(np.median(cost)), TINY)
    a, b = a / a.sum(), b / b.sum()
    if plan == "soft":
        solved = ot.sinkhorn(a, b, scaled, epsilon, method="sinkhorn_log", numItermax=10_000)
    else:
        solved = ot.unbalanced.sinkhorn_unbalanced(
            a, b, scaled, epsilon, unmatched, method="sinkhorn_stabilized"
        )
    return np.asarray(solved, np.float64)


def align(
    parties: Sequence[TopicFeatures],
    *,
    topics: int | None = None,
    plan: Plan = "permutation",
    cost: AlignCost | None = None,
    new_slot: float | None = None,
    weights: Sequence[float] | None = None,
) -> Alignment:
    """Bring the parties' topics together around common ones.

    The common topics start as those of the party with the most weight (most topics among equals),
    ``topics`` of them where given, and are averaged and matched anew a few times. ``new_slot`` is
    the Hellinger distance beyond which a party's topic does not belong to its match and becomes a
    common topic of its own; so do topics left without a match. The outcome does not depend on the
    order of a party's topics.
    """
    if not parties:
        raise ScenarioError(expected("parties", 0, "be at least 1", "another quorum"))
    cost = cost or AlignCost()
    share = np.ones(len(parties)) if weights is None else np.asarray(weights, np.float64)
    parties, orders = zip(*(_canonical(one, plan) for one in parties), strict=True)
    first = max(range(len(parties)), key=lambda n: (share[n], len(parties[n].mass), -n))
    common = _take(parties[first], np.arange(len(parties[first].mass)))
    if topics is not None and topics < len(common.mass):
        common = _take(common, np.sort(np.argsort(-common.mass, kind="stable")[:topics]))
    maps: list[Floats] = []
    for _ in range(ROUNDS):
        maps = [_map(one, common, plan, cost) for one in parties]
        if new_slot is not None and plan != "index":
            room = None if topics is None else topics - len(common.mass)
            common, maps = _open_slots(parties, common, maps, new_slot, room)
        common = _average(parties, maps, share, common)
    distance = tuple(
        np.where(m.sum(axis=0) > 0, np.diag(hellinger(m.T @ one.words + TINY, common.words)), 1.0)
        for one, m in zip(parties, maps, strict=True)
    )
    back = [np.empty_like(m) for m in maps]
    for one, order, m in zip(back, orders, maps, strict=True):
        one[order] = m
    return Alignment(tuple(back), distance, common)


def carry(mean: Floats, spread: Floats, chart: Floats) -> tuple[Floats, Floats]:
    """Return latents and deviations (documents, common topics) pushed through a party's map.

    The covariance of the image is taken on its diagonal, exact for a permutation.
    """
    return mean @ chart, np.sqrt((spread**2) @ (chart**2))


def _canonical(one: TopicFeatures, plan: Plan) -> tuple[TopicFeatures, NDArray[np.int64]]:
    """Return the topics in an order that depends on what they are, with the order taken."""
    order = np.arange(len(one.mass))
    if plan != "index":
        order = np.lexsort((one.words.argmax(axis=1), one.words.max(axis=1), one.mass))
    return _take(one, order), order


def _take(one: TopicFeatures, rows: NDArray[np.int64]) -> TopicFeatures:
    places = None if one.places is None else one.places[rows]
    return TopicFeatures(one.activity[rows], one.words[rows], places, one.mass[rows])


def _map(one: TopicFeatures, common: TopicFeatures, plan: Plan, cost: AlignCost) -> Floats:
    price = topic_cost(one, common, cost)
    found = transport_plan(price, one.mass, common.mass, plan)
    total = found.sum(axis=0)
    # A column that next to nothing reaches has no counterpart at this party.
    there = total > 1e-3 / len(total)
    return np.where(there, found / np.maximum(total, TINY), 0.0)


def _open_slots(
    parties: Sequence[TopicFeatures],
    common: TopicFeatures,
    maps: list[Floats],
    limit: float,
    room: int | None,
) -> tuple[TopicFeatures, list[Floats]]:
    """Give a common topic to each party's topic that no common one resembles."""
    maps = [m.copy() for m in maps]
    lonely: list[tuple[int, int]] = []
    for n, one in enumerate(parties):
        far = hellinger(one.words, common.words)
        for topic in range(len(one.mass)):
            held = np.flatnonzero(maps[n][topic] > 0.5)
            if len(held) and far[topic, held[0]] <= limit:
                continue
            if room is not None and len(lonely) >= room:
                continue
            if not len(held) and far[topic].min() <= limit:
                continue
            maps[n][topic, held] = 0.0
            lonely.append((n, topic))
    if not lonely:
        return common, maps
    extra = [_take(parties[n], np.array([topic])) for n, topic in lonely]
    wide = [np.hstack([m, np.zeros((len(m), len(lonely)))]) for m in maps]
    for slot, (n, topic) in enumerate(lonely):
        wide[n][topic, len(common.mass) + slot] = 1.0
    return _stack([common, *extra]), wide


def _stack(parts: Sequence[TopicFeatures]) -> TopicFeatures:
    places = [p.places for p in parts if p.places is not None]
    return TopicFeatures(
        np.vstack([p.activity for p in parts]),
        np.vstack([p.words for p in parts]),
        np.vstack(places) if places else None,
        np.concatenate([p.mass for p in parts]),
    )


def _average(
    parties: Sequence[TopicFeatures], maps: Sequence[Floats], share: Floats, old: TopicFeatures
) -> TopicFeatures:
    weight = np.stack([s * m.sum(axis=0) for s, m in zip(share, maps, strict=True)])
    total = weight.sum(axis=0)
    weight = weight / np.maximum(total, TINY)

    def mean(name: str) -> Floats:
        rows = [getattr(one, name) for one in parties]
        found = sum(w[:, None] * (m.T @ r) for w, m, r in zip(weight, maps, rows, strict=True))
        kept: Floats = np.where(total[:, None] > 0, found, getattr(old, name))
        return kept

    mass = sum(w * (m.T @ one.mass) for w, m, one in zip(weight, maps, parties, strict=True))
    return TopicFeatures(
        mean("activity"),
        mean("words"),
        None if old.places is None else mean("places"),
        np.where(total > 0, np.asarray(mass), old.mass),
    )


def _centred(places: Floats | None) -> Floats:
    if places is None:
        raise ScenarioError(
            expected("alignment cost 'places'", None, "have text vectors", "another cost")
        )
    shifted: Floats = places - places.mean(axis=0)
    return shifted


def _cosine(a: Floats, b: Floats) -> Floats:
    lengths = [np.maximum(np.linalg.norm(x, axis=1), TINY) for x in (a, b)]
    found: Floats = (a @ b.T) / np.outer(*lengths)
    return found

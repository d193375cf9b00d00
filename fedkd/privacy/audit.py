"""The audit: every attack on what left the parties, set beside what the accountants promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.privacy.attacks.membership import confidence_scores, lira_scores
from fedkd.privacy.attacks.scoring import Verdict, judge
from fedkd.seeds import seed_for

Floats = NDArray[np.float64]
DELTA = 1e-5


@dataclass(frozen=True)
class Questioned:
    """One party's suspects and all answers on them.

    The first ``members`` rows are members, the rest are not. ``target`` (n, labels) is what the
    server sees of this party; ``others`` and ``shadows`` (models, n, labels) are the references of
    the two likelihood-ratio attacks, empty where there are none. ``label`` (n,) is known to the
    attacker.
    """

    members: int
    label: NDArray[np.int64]
    target: Floats
    others: Floats
    shadows: Floats


def membership(
    questioned: Mapping[str, Questioned], delta: float, seed: int
) -> tuple[dict[str, dict[str, Verdict]], dict[str, Verdict]]:
    """Return the verdicts by party and attack, and by attack over the rows of all parties.

    A party without suspects on both sides is left out.
    """
    by_party: dict[str, dict[str, Verdict]] = {}
    pools: dict[str, list[tuple[Floats, Floats]]] = {}
    for party, own in questioned.items():
        if not 0 < own.members < len(own.label):
            continue
        by_party[party] = {}
        for attack, scores in attack_scores(own):
            sides = scores[: own.members], scores[own.members :]
            draw = seed_for(seed, party, 0, attack)
            by_party[party][attack] = judge(*sides, delta=delta, seed=draw)
            pools.setdefault(attack, []).append(sides)
    pooled = {}
    for attack, pool in pools.items():
        inside, outside = (np.concatenate(side) for side in zip(*pool, strict=True))
        pooled[attack] = judge(inside, outside, delta=delta, seed=seed)
    return by_party, pooled


def attack_scores(own: Questioned) -> Iterator[tuple[str, Floats]]:
    """Yield each attack that can be made with its scores (n,), higher for members."""
    yield "confidence", confidence_scores(own.target, own.label)
    if len(own.others):
        yield "cooperative-lira", lira_scores(own.target, own.others, own.label)
    if len(own.shadows):
        yield "distilled-lira", lira_scores(own.target, own.shadows, own.label)


def bounds(
    verdicts: Mapping[str, Mapping[str, Verdict]], upper: Mapping[str, float | None]
) -> dict[str, dict[str, float | None]]:
    """Return per party the attacks' largest lower bound on epsilon and the accountant's upper one.

    The largest of several lower bounds at 95 % holds a little less surely than each of them.
    """
    return {
        party: {
            "lower": max(verdict.epsilon_lower for verdict in own.values()),
            "upper": upper.get(party),
        }
        for party, own in verdicts.items()
    }


def broken_promises(found: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Return a sentence for every party whose attacks exceed what was promised."""
    return [
        f"{party}: the attack shows epsilon of at least {own['lower']:.3f}, "
        f"the accountant promised at most {own['upper']:.3f}"
        for party, own in found.items()
        if own["upper"] is not None and own["lower"] is not None and own["lower"] > own["upper"]
    ]


def membership_json(
    by_party: Mapping[str, Mapping[str, Verdict]], upper: Mapping[str, float | None]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the verdicts as plain values, each beside the party's promised epsilon."""
    return {
        party: {
            attack: verdict.as_json() | {"epsilon_upper": upper.get(party)}
            for attack, verdict in own.items()
        }
        for party, own in by_party.items()
    }

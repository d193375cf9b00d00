"""Party identification: whose release is this, if the names are taken off?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fedkd.privacy.attacks.label_distribution import divergence, mean_answer, shares
from fedkd.seeds import numpy_generator

Floats = NDArray[np.float64]
DRAWS = 20
FLOOR = 1e-6


def identification(
    answers: Mapping[str, Floats], counts: Mapping[str, Floats], seed: int
) -> dict[str, Any]:
    """Return how often nameless releases are given the right name, beside chance.

    ``linked``: the names of one half of the rows are known and those of the other half are
    guessed, mean over twenty random halves. ``by_label_counts``: nothing is known but each party's
    label counts. ``chance`` is what shuffled names reach, 1/parties. Rows that a party did not
    deliver must have been left out for all.
    """
    names = list(answers)
    if len(names) < 2:
        return {"parties": len(names), "reason": "one party alone has nobody to be taken for"}
    probs = np.stack([answers[name] for name in names])
    rows = probs.shape[1]
    draw = numpy_generator(seed, "", 0, "halves of the identification")
    right = []
    for _ in range(DRAWS if rows >= 2 else 0):
        order = draw.permutation(rows)
        first, second = order[: rows // 2], order[rows // 2 :]
        right.append(
            _matched(_distances(signatures(probs[:, first]), signatures(probs[:, second])))
        )
    guessed = [mean_answer(answers[name]) for name in names]
    truth = [shares(counts[name]) for name in names] if counts else []
    found: dict[str, Any] = {"parties": len(names), "rows": rows, "chance": 1 / len(names)}
    if right:
        found["linked"] = float(np.mean(right))
    if truth:
        cost = np.array([[divergence(t, g) for g in guessed] for t in truth])
        found["by_label_counts"] = _matched(cost)
    return found


def signatures(probs: Floats) -> Floats:
    """Return what a teacher's answers (parties, rows, labels) have that the others' have not.

    Per label the mean and spread of ln p_k(x) less the parties' mean of it, (parties, 2 labels).
    """
    logs = np.log(np.asarray(probs, np.float64) + FLOOR)
    rest = logs - logs.mean(axis=0)
    return np.concatenate([rest.mean(axis=1), rest.std(axis=1)], axis=1)


def _distances(known: Floats, unknown: Floats) -> Floats:
    return np.asarray(((known[:, None] - unknown[None]) ** 2).sum(axis=2), np.float64)


def _matched(cost: Floats) -> float:
    rows, columns = linear_sum_assignment(cost)
    return float((rows == columns).mean())

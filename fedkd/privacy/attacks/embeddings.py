"""Embedding inversion: do released embeddings lie nearer to private rows than they should?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.privacy.attacks.scoring import clopper_pearson
from fedkd.seeds import numpy_generator

Floats = NDArray[np.float64]
BLOCK = 256


def nearest_private(
    released: Floats, private: Floats, control: Floats, seed: int
) -> dict[str, Any]:
    """Return how near released embeddings (n, D) are to private rows, and to as many public ones.

    ``private`` and ``control`` (·, D) are in the party's own space; both are cut to the same
    number of rows, so that where the releases know nothing of the private rows either is nearer
    half of the time. ``nearest_is_private`` is that share with its Clopper–Pearson interval;
    the distances are medians of the Euclidean distance.
    """
    count = min(len(private), len(control))
    if not count or not len(released):
        return {"n": 0, "reason": "no held-out rows to compare with"}
    draw = numpy_generator(seed, "", 0, "rows of the embedding attack")
    near = [
        nearest(released, rows[np.sort(draw.permutation(len(rows))[:count])])
        for rows in (private, control)
    ]
    wins = (near[0] < near[1]) + 0.5 * (near[0] == near[1])
    low, high = clopper_pearson(round(float(wins.sum())), len(released))
    return {
        "private_distance": float(np.median(near[0])),
        "control_distance": float(np.median(near[1])),
        "nearest_is_private": float(wins.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
        "n": len(released),
        "compared_with": count,
    }


def nearest(points: Floats, others: Floats) -> Floats:
    """Return each point's Euclidean distance to the nearest of the others, (n,)."""
    squared = (others * others).sum(axis=1)
    found = []
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        both = squared - 2 * block @ others.T
        found.append(both.min(axis=1) + (block * block).sum(axis=1))
    return np.asarray(np.sqrt(np.maximum(np.concatenate(found), 0)), np.float64)

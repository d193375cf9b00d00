"""Soft k-means inside a label: another way to find subclasses, where true clusters exist."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESTARTS = 4


def soft_clusters(
    rows: Floats, weights: Floats, count: int, generator: np.random.Generator
) -> Floats:
    """Return scores (n, count) float64: −d²/2 to each centre, in units of the mean square to one.

    Weighted Lloyd iterations from 4 starts. Divided by a temperature and softmaxed this is the
    responsibility of a mixture of equal Gaussians.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  # a second to import, seldom needed

    found = KMeans(count, n_init=RESTARTS, random_state=int(generator.integers(2**31)))
    found.fit(rows, sample_weight=weights)
    distance = found.transform(rows) ** 2
    unit = float(np.average(distance.min(axis=1), weights=weights)) or 1.0
    return np.asarray(-distance / (2 * unit))

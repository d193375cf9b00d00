"""Principal scores of many teachers side by side, from sums of their Gram columns alone.

A teacher compares every row with some landmark rows. PCA of embeddings side by side depends on the
sum of the teachers' Gram matrices, and Nyström's approximation of that sum on its columns at the
landmarks: bases and widths never leave a party, and the sum could run under secure summation. A
single teacher's columns tell its embeddings up to a rotation, so without secure summation they are
as much of a release as the embeddings are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.seeds import numpy_generator
from fedkd.subclass.align import signed, standing
from fedkd.subclass.basis import principal_basis
from fedkd.subclass.statistics import block_moments

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def landmarks(rows: int, count: int, seed: int) -> Places:
    """Return which rows are landmarks (m,), sorted: the same for all teachers, m ≤ count."""
    chosen = numpy_generator(seed, "", 0, "landmarks").permutation(rows)[:count]
    return np.sort(chosen).astype(np.int64)


def landmark_grams(embeddings: Floats, membership: Floats, places: Places) -> Floats:
    """Return one teacher's Gram columns (n, labels, m): x_i · x_l for each row and landmark.

    x are the rows centred for a label and brought to a mean square of 1 by ``membership``
    (n, labels), so that teachers of every scale count alike.
    """
    found = np.empty((*membership.shape, len(places)))
    for label, weights in enumerate(membership.T):
        block = standing(embeddings, weights, float(weights.sum()) or 1.0)
        found[:, label] = block @ block[places].T
    return found


def landmark_scores(
    columns: Floats, places: Places, weights: Floats, count: int,
    precision: float = float(np.finfo(np.float64).eps),
) -> Floats:  # fmt: skip
    """Return the leading principal scores (n, ≤ count) of rows from summed Gram columns (n, m).

    Williams and Seeger (NIPS 2000): with W the rows ``places`` of C, features C W^(−1/2) have
    C W⁺ Cᵀ as their Gram matrix. Where the landmarks span the embeddings that is the whole Gram
    matrix, and PCA of the features with row ``weights`` is that of the embeddings side by side.
    The largest score of each column is positive. ``precision`` is the relative error of the
    columns; directions of W that such an error could make are left out.
    """
    corner = columns[places]
    values, vectors = np.linalg.eigh((corner + corner.T) / 2)
    noise = precision * np.sqrt(len(places)) * float(np.abs(np.diag(corner)).mean())
    kept = values > max(noise, np.finfo(float).tiny)
    if not kept.any():
        return np.zeros((len(columns), 1))
    features = columns @ (vectors[:, kept] / np.sqrt(values[kept]))
    basis = principal_basis(block_moments(features, weights), count)
    return signed(basis.scores(features))

"""The directions that a teacher's own head reads, and how to take them out of its embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ModelError, expected

Floats = NDArray[np.float64]
RANK_TOLERANCE = 1e-10


def head_directions(weights: NDArray[np.floating]) -> Floats:
    """Return orthonormal rows (r, D) that span what the head W (labels, D) can tell apart.

    The rows of W are centred first: softmax ignores a shift common to all labels, so r is at most
    labels - 1. A head of one logit (1, D) is read as the two rows (0, w). Raises
    :class:`ModelError` for weights that are not finite.
    """
    head = np.asarray(weights, np.float64)
    if head.ndim != 2 or not np.isfinite(head).all():
        raise ModelError(
            expected("head weights", head.shape, "be finite (labels, D)", "retraining")
        )
    if len(head) == 1:
        head = np.concatenate([np.zeros_like(head), head])
    centred = head - head.mean(axis=0)
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(rows[sizes > RANK_TOLERANCE * max(sizes[0], np.finfo(float).tiny)])


def project_out(embeddings: NDArray[np.floating], directions: Floats) -> Floats:
    """Return H − (H Bᵀ) B (n, D) float64 for orthonormal rows B (r, D): the null projection.

    P = I − W⁺W of Loo et al. (arXiv 2409.20449, section 3.1) without ever making P.
    """
    values = np.asarray(embeddings, np.float64)
    return np.asarray(values - (values @ directions.T) @ directions)

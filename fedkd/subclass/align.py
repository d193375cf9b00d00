"""One set of subclasses for many teachers: aligned scores, or embeddings side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PASSES = 3


def procrustes(scores: Floats, reference: Floats, weights: Floats) -> Floats:
    """Return the orthonormal O (S, S) that brings scores (n, S) closest to a reference (n, S).

    O = U Vᵀ with U Σ Vᵀ = svd(Zᵀ diag(w) R) (Schönemann 1966), weights (n,).
    """
    left, _, right = np.linalg.svd(scores.T @ (weights[:, None] * reference))
    return np.asarray(left @ right)


def aligned_mean(scores: Sequence[Floats], shares: Sequence[float], weights: Floats) -> Floats:
    """Return the mean (n, S) of teachers' scores, each turned onto the others, at unit RMS.

    Generalised Procrustes in 3 passes from the teacher with the largest share (the first of
    equals); ``weights`` (n,) are the rows' membership of the label.
    """
    reference = scores[int(np.argmax(shares))]
    for _ in range(PASSES):
        total = np.zeros_like(reference)
        for values, share in zip(scores, shares, strict=True):
            total += share * (values @ procrustes(values, reference, weights))
        reference = unit_rms(total, weights)
    return reference


def unit_rms(scores: Floats, weights: Floats) -> Floats:
    """Return scores (n, S) divided by their weighted root mean square."""
    mean = float(np.average((scores**2).mean(axis=1), weights=weights))
    return scores / (np.sqrt(mean) or 1.0)


def standing(embeddings: Floats, weights: Floats, share: float) -> Floats:
    """Return √share · (h − mean)/‖·‖ (n, D): one teacher's block beside the others'."""
    mean = np.average(embeddings, axis=0, weights=weights if weights.any() else None)
    centred = embeddings - mean
    size = np.sqrt(float((weights[:, None] * centred**2).sum()))
    return np.asarray(centred * (np.sqrt(share) / (size or 1.0)))


def signed(scores: Floats) -> Floats:
    """Return scores (n, S) with the largest of each column positive."""
    largest = np.abs(scores).argmax(axis=0)
    signs = np.sign(scores[largest, np.arange(scores.shape[1])])
    return np.asarray(scores * np.where(signs == 0, 1.0, signs))

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


def gram_scores(gram: Floats, weights: Floats, count: int) -> Floats:
    """Return the leading principal scores (n, count) at unit RMS from G = Σ_k H_k H_kᵀ (n, n).

    PCA of embeddings side by side depends on the sum of their Gram matrices alone, so a server
    that is given only the sum sees no teacher's embedding. With row weights w the eigenvectors
    are those of diag(√w) G diag(√w), carried to all rows. The component of largest size is
    positive in each column.
    """
    root = np.sqrt(weights)
    values, vectors = np.linalg.eigh(root[:, None] * gram * root)
    order = np.argsort(values)[::-1][:count]
    values, vectors = values[order], vectors[:, order]
    known = max(1, int((values > 1e-10 * max(values[0], 0.0)).sum()))
    lengths = np.sqrt(np.maximum(values[:known], np.finfo(float).tiny))
    found = gram @ (root[:, None] * vectors[:, :known]) / lengths
    return unit_rms(signed(found), weights)


def signed(scores: Floats) -> Floats:
    """Return scores (n, S) with the largest of each column positive."""
    largest = np.abs(scores).argmax(axis=0)
    signs = np.sign(scores[largest, np.arange(scores.shape[1])])
    return np.asarray(scores * np.where(signs == 0, 1.0, signs))

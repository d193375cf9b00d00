"""Informative directions of a class: principal axes, turned so that none matters more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, hadamard

from fedkd.errors import ScenarioError, expected
from fedkd.seeds import numpy_generator
from fedkd.subclass.statistics import Moments, Values, blocks

Floats = NDArray[np.float64]
Rotation = Literal["random", "hadamard", "none"]
WIDEST_EXACT = 2048
EXTRA, SWEEPS = 8, 4
RANK_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Basis:
    """Where a class's scores are measured from, along what, and in which unit.

    ``mean`` (D,), ``directions`` (D, S) orthonormal, ``radius`` the root mean square of the scores
    over the class: z = Uᵀ(h − mean) / radius has a mean square of 1 over rows and directions, so
    one temperature suits teachers of every scale.
    """

    mean: Floats
    directions: Floats
    radius: float

    @property
    def subclasses(self) -> int:
        """Number of directions S."""
        return int(self.directions.shape[1])

    def scores(self, embeddings: Values) -> Floats:
        """Return z (n, S) float64 of embeddings (n, D)."""
        return np.asarray(
            (np.asarray(embeddings, np.float64) - self.mean) @ self.directions / self.radius
        )


def principal_basis(moments: Moments, count: int) -> Basis:
    """Return the ``count`` leading principal axes of a class; fewer where its rank is less.

    Axes are ordered by variance; in each the component of largest size is positive, so two fits
    of the same rows agree. Where eigenvalues are tied only the span is determined. The arithmetic
    is exact up to D = 2048; wider embeddings go through :func:`low_rank_basis`.
    """
    width = len(moments.mean)
    count = min(count, width)
    values, vectors = eigh(moments.covariance, subset_by_index=(width - count, width - 1))
    return _finish(moments.mean, values[::-1], vectors[:, ::-1])


def low_rank_basis(embeddings: Values, weights: Values, count: int, seed: int) -> Basis:
    """Return the leading axes of rows (N, D) with weights (N,) without any (D, D) matrix.

    Subspace iteration on the weighted, centred rows (Halko et al. 2011) with 8 extra directions
    and 4 sweeps over the data, in float64; memory O(block + D · count).
    """
    total = float(np.sum(weights, dtype=np.float64)) or 1.0
    mean = np.zeros(embeddings.shape[1])
    for start, block in blocks(embeddings):
        mean += weights[start : start + len(block)] @ np.asarray(block, np.float64)
    mean /= total
    size = min(count + EXTRA, len(mean))
    span = np.linalg.qr(
        numpy_generator(seed, "", 0, "low-rank start").normal(size=(len(mean), size))
    )[0]
    values, vectors = np.zeros(0), span
    for _ in range(SWEEPS):
        image = np.zeros_like(span)
        for start, block in blocks(embeddings):
            rows = np.asarray(block, np.float64) - mean
            share = weights[start : start + len(block), None]
            image += rows.T @ ((rows @ span) * share)
        values, turn = np.linalg.eigh(span.T @ image / total)
        vectors = span @ turn[:, ::-1]
        span = np.linalg.qr(image)[0]
    return _finish(mean, values[::-1][:count], vectors[:, :count])


def random_basis(moments: Moments, count: int, generator: np.random.Generator) -> Basis:
    """Return random orthonormal directions in place of principal axes: a control."""
    width = len(moments.mean)
    directions = np.linalg.qr(generator.normal(size=(width, min(count, width))))[0]
    spread = np.einsum("ds,de,es->s", directions, moments.covariance, directions)
    return Basis(moments.mean, directions, _radius(spread))


def rotate(basis: Basis, kind: Rotation, generator: np.random.Generator) -> Basis:
    """Return the basis turned by an orthonormal Q (S, S): U = V Q.

    ``random`` makes the variances along the directions equal in expectation; ``hadamard`` exactly,
    for S a power of two (:class:`ScenarioError` otherwise); the radius does not change.
    """
    turn = rotation(basis.subclasses, kind, generator)
    return Basis(basis.mean, basis.directions @ turn, basis.radius)


def matched(basis: Basis, last: Basis) -> Basis:
    """Return the basis turned inside its own span to lie as close as it can to the last round's.

    U' = U A Bᵀ with A Σ Bᵀ = svd(Uᵀ U_last) (Schönemann 1966), so subclass s keeps its meaning from
    round to round; mean and radius are the new ones. A run of one round has nothing to match.
    Raises ValueError for another number of subclasses or another width.
    """
    if basis.directions.shape != last.directions.shape:
        raise ValueError(
            expected(
                "directions", basis.directions.shape, f"equal the last {last.directions.shape}",
                "the same teacher and number of subclasses",
            )
        )  # fmt: skip
    left, _, right = np.linalg.svd(basis.directions.T @ last.directions)
    return Basis(basis.mean, basis.directions @ left @ right, basis.radius)


def rotation(size: int, kind: Rotation, generator: np.random.Generator) -> Floats:
    """Return an orthonormal (size, size) matrix."""
    if kind == "random":
        turn, upper = np.linalg.qr(generator.normal(size=(size, size)))
        return np.asarray(turn * np.sign(np.diag(upper)))
    if kind == "none":
        return np.eye(size)
    if size & (size - 1):
        raise ScenarioError(
            expected("subclasses", size, "be a power of 2 for 'hadamard'", "rotation = 'random'")
        )
    return np.asarray(hadamard(size) / np.sqrt(size), np.float64)


def _finish(mean: Floats, values: Floats, vectors: Floats) -> Basis:
    known = max(1, int((values > RANK_TOLERANCE * max(values[0], 0.0)).sum()))
    values, vectors = np.maximum(values[:known], 0.0), vectors[:, :known]
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(known)])
    return Basis(mean, vectors * np.where(signs == 0, 1.0, signs), _radius(values))


def _radius(variances: Floats) -> float:
    # Rows that are all alike have no spread; every score is then 0 whatever it is divided by.
    return float(np.sqrt(variances.mean())) or 1.0

"""Splitting each label into subclasses, by one teacher's embeddings of the public rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ReleaseError, ScenarioError, expected
from fedkd.seeds import numpy_generator, seed_for
from fedkd.subclass.basis import (
    WIDEST_EXACT,
    Basis,
    Rotation,
    low_rank_basis,
    principal_basis,
    random_basis,
    rotate,
)
from fedkd.subclass.clusters import soft_clusters
from fedkd.subclass.projection import head_directions, project_out
from fedkd.subclass.statistics import Moments, Values, class_moments

Floats = NDArray[np.float64]
Splitter = Literal["pca", "random-projection", "k-means", "random", "uniform", "learned"]


@dataclass(frozen=True)
class Split:
    """How subclasses are made; the same for every party of a federation.

    ``subclasses`` S ≥ 1 of a label, ``beta`` > 0 the temperature of the scores, in units of their
    root mean square; ``null_projection`` takes out what the teacher's head reads; ``seed`` is the
    run's, from which each teacher draws its own rotation. ``landmarks`` counts the rows that all
    are compared with where Gram matrices are asked for.
    """

    subclasses: int = 5
    beta: float = 0.25
    splitter: Splitter = "pca"
    null_projection: bool = True
    rotation: Rotation = "random"
    seed: int = 0
    landmarks: int = 0

    def fields(self) -> dict[str, int | float | str]:
        """Return the settings as plain scalars, for a request."""
        return asdict(self) | {"null_projection": int(self.null_projection)}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Split:
        """Read what :meth:`fields` gave; raises :class:`ReleaseError` for what cannot be."""
        split = cls(
            int(fields["subclasses"]),
            float(fields["beta"]),
            fields["splitter"],
            bool(int(fields["null_projection"])),
            fields["rotation"],
            int(fields["seed"]),
            int(fields["landmarks"]),
        )
        if split.subclasses < 1 or not split.beta > 0:
            raise ReleaseError(
                expected(
                    "subclasses, beta", (split.subclasses, split.beta), "be at least 1 and > 0",
                    "subclasses = 5, beta = 0.25",
                )
            )  # fmt: skip
        return split


def conditionals(
    embeddings: Values, head: Values, membership: Floats, split: Split, teacher: str
) -> Floats:
    """Return r (n, labels, S) float64, Σ_s r = 1: each row's subclass given each label.

    ``embeddings`` (n, D) are the teacher's on the public rows, ``head`` its last weights
    (labels, D), ``membership`` (n, labels) how much a row belongs to a label: the consensus of
    all teachers, so that all of them split the same population. A label with fewer than 2S + 2
    rows gets fewer subclasses; those left over have probability 0. Raises :class:`ReleaseError`
    for embeddings that are not finite and :class:`ScenarioError` for D < S + labels.
    """
    if split.splitter in ("uniform", "random"):
        return _blind(membership.shape, split, teacher)
    return softened(scores(embeddings, head, membership, split, teacher), split.beta)


def scores(
    embeddings: Values, head: Values, membership: Floats, split: Split, teacher: str
) -> Floats:
    """Return z (n, labels, S) float64; −inf for a subclass that a label does not have."""
    rows = prepared(embeddings, head, split)
    rows_of = membership.sum(axis=0)
    found = np.full((*membership.shape, split.subclasses), -np.inf)
    moments: tuple[Moments | None, ...] = (None,) * membership.shape[1]
    if rows.shape[1] <= WIDEST_EXACT:
        moments = class_moments(rows, membership)
    for label, known in enumerate(moments):
        count = usable(split.subclasses, float(rows_of[label]))
        own = replace(split, subclasses=count)
        purpose = f"subclasses of label {label}"
        generator = numpy_generator(split.seed, teacher, 0, purpose)
        if split.splitter == "k-means":
            values = soft_clusters(rows, membership[:, label], count, generator)
        else:
            basis = _basis(rows, membership[:, label], known, own, generator)
            values = basis.scores(rows)
        found[:, label, : values.shape[1]] = values
    return found


def prepared(embeddings: Values, head: Values, split: Split) -> Floats:
    """Return the embeddings (n, D) float64, null-projected where the split says so."""
    values = np.asarray(embeddings, np.float64)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ReleaseError(
            expected("count of non-finite embeddings", bad, "equal 0", "another teacher")
        )
    width, labels = values.shape[1], len(head)
    if split.splitter == "pca" and width < split.subclasses + (
        labels if split.null_projection else 0
    ):
        raise ScenarioError(
            expected(
                "width of the embedding", width,
                f"be at least subclasses + labels = {split.subclasses + labels}",
                "a wider last layer, fewer subclasses, or null_projection = false",
            )
        )  # fmt: skip
    return project_out(values, head_directions(head)) if split.null_projection else values


def softened(values: Floats, beta: float) -> Floats:
    """Return softmax(z / β) over the last axis; −inf gives 0."""
    raised = np.exp((values - values.max(axis=-1, keepdims=True)) / beta)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def usable(subclasses: int, rows: float) -> int:
    """Return how many subclasses so many rows carry: S needs 2S + 2 of them, and 1 is always."""
    return max(1, min(subclasses, int((rows - 2) // 2)))


def split_probabilities(probs: Floats, conditional: Floats) -> Floats:
    """Return q = p ⊗ r (n, labels, S): Σ_s q = p, so what was known of the labels stays exact."""
    return np.asarray(probs[:, :, None] * conditional)


def _basis(
    rows: Floats, share: Floats, moments: Moments | None, split: Split,
    generator: np.random.Generator,
) -> Basis:  # fmt: skip
    if split.splitter == "random-projection" and moments is not None:
        return random_basis(moments, split.subclasses, generator)
    if moments is not None:
        basis = principal_basis(moments, split.subclasses)
    else:
        seed = seed_for(split.seed, "", 0, "low rank")
        basis = low_rank_basis(rows, share, split.subclasses, seed)
    known = basis.subclasses
    kind = "random" if split.rotation == "hadamard" and known & (known - 1) else split.rotation
    return rotate(basis, kind, generator)


def _blind(shape: tuple[int, ...], split: Split, teacher: str) -> Floats:
    """Return conditionals that know nothing of the embeddings: controls."""
    rows, labels = shape
    if split.splitter == "uniform":
        return np.full((rows, labels, split.subclasses), 1 / split.subclasses)
    generator = numpy_generator(split.seed, teacher, 0, "random subclasses")
    drawn = generator.integers(split.subclasses, size=(rows, labels))
    return np.eye(split.subclasses)[drawn]

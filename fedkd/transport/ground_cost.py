"""The ground cost: how far apart two labels are (Bhardwaj et al., COLING 2022, tag E2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ScenarioError, expected
from fedkd.scenario import Geometry, Labels

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], NDArray[np.floating]]
Coordinates = Mapping[str, Sequence[float]] | Sequence[Sequence[float]]


@dataclass(frozen=True)
class LabelSpace:
    """The labels and the distance between them.

    ``cost`` (labels, labels) float64 is symmetric and non-negative with a zero diagonal, and has
    largest entry 1 if the scenario normalises. ``coordinates`` (labels, d) is what Semantic
    Distance measures in; None where labels have no position. ``points`` (labels, d) are the points
    whose distances are ``cost``, in the same unit; None where no points at power 1 exist.
    """

    names: tuple[str, ...]
    geometry: Geometry
    cost: Floats
    coordinates: Floats | None
    warnings: tuple[str, ...] = ()
    points: Floats | None = None


def label_space(
    labels: Labels,
    names: Sequence[str],
    *,
    values: Sequence[float] | None = None,
    coordinates: Coordinates | None = None,
    geometry: Geometry | None = None,
    embed: Embed | None = None,
) -> LabelSpace:
    """Return the ground cost C_ij = ‖e_i − e_j‖^p between ``names``.

    ``values`` and ``coordinates`` are the catalogue's, used where the scenario gives neither;
    ``geometry`` replaces ``labels.geometry``. ``embed`` maps label names to (labels, d) vectors,
    which are scaled to unit length. Raises :class:`ScenarioError` for whatever does not make a
    cost: missing, of the wrong length or shape, not finite, negative, asymmetric, zero throughout.
    """
    names = tuple(names)
    chosen: Geometry = geometry or labels.geometry
    line, places = _positions(labels, names, values, coordinates)
    semantic = line if line is not None else places
    if chosen == "matrix":
        points, cost = None, _read_matrix(labels, names)
    else:
        points = _points(chosen, names, line, places, embed)
        cost = _distances(points) ** labels.power
    _check_cost(cost, names)
    scale = float(cost.max()) if labels.normalise and len(names) > 1 else 1.0
    if chosen in ("coordinates", "embedding"):
        semantic = points
    return LabelSpace(
        names=names,
        geometry=chosen,
        cost=cost / scale,
        coordinates=semantic,
        warnings=_warnings(cost, chosen),
        points=points / scale if points is not None and labels.power == 1 else None,
    )


def _positions(
    labels: Labels,
    names: tuple[str, ...],
    values: Sequence[float] | None,
    coordinates: Coordinates | None,
) -> tuple[Floats | None, Floats | None]:
    """Return positions on a line (labels, 1) and points (labels, d); the scenario's come first."""
    if labels.values is not None or labels.coordinates is not None:
        values, coordinates = labels.values, labels.coordinates
    line = None if values is None else _line(values, names)
    places = None if coordinates is None else _places(coordinates, names)
    return line, places


def _line(values: Sequence[float], names: tuple[str, ...]) -> Floats:
    if len(values) != len(names):
        raise ScenarioError(
            expected(
                "labels.values",
                list(values),
                f"hold one position for each of the {len(names)} labels, not {len(values)}"
                + _without(names[len(values) :]),
                f"a number for each of {_listed(names)}, in this order",
            )
        )
    return _finite("labels.values", np.asarray(values, np.float64)[:, None], names)


def _places(coordinates: Coordinates, names: tuple[str, ...]) -> Floats:
    if isinstance(coordinates, Mapping):
        missing = tuple(name for name in names if name not in coordinates)
        if missing:
            raise ScenarioError(
                expected(
                    "labels.coordinates",
                    sorted(coordinates),
                    f"name all {len(names)} labels" + _without(missing),
                    "a point for each missing label",
                )
            )
        coordinates = [coordinates[name] for name in names]
    if len(coordinates) != len(names):
        raise ScenarioError(
            expected(
                "labels.coordinates",
                [list(point) for point in coordinates],
                f"hold one point for each of the {len(names)} labels, not {len(coordinates)}"
                + _without(names[len(coordinates) :]),
                f"a point for each of {_listed(names)}, in this order",
            )
        )
    widths = [len(point) for point in coordinates]
    if len(set(widths)) != 1 or not widths[0]:
        raise ScenarioError(
            expected(
                "labels.coordinates: numbers per point",
                widths,
                "be the same for every label, and at least 1",
                "points of equal length",
            )
        )
    return _finite("labels.coordinates", np.asarray(coordinates, np.float64), names)


def _points(
    geometry: Geometry,
    names: tuple[str, ...],
    line: Floats | None,
    places: Floats | None,
    embed: Embed | None,
) -> Floats:
    count = len(names)
    if geometry == "onehot":
        return np.eye(count)
    if geometry == "embedding":
        return _embedded(names, embed)
    position = {"ordinal": line, "coordinates": places}.get(
        geometry, line if line is not None else places
    )
    if position is None:
        needed = "labels.coordinates" if geometry == "coordinates" else "labels.values"
        raise ScenarioError(
            expected(
                "labels.geometry",
                geometry,
                f"come with {needed} for the {count} labels {_listed(names)}",
                f"giving {needed}, or geometry = 'onehot'",
            )
        )
    return np.hstack([np.eye(count), position]) if geometry == "hybrid" else position


def _embedded(names: tuple[str, ...], embed: Embed | None) -> Floats:
    if embed is None:
        raise ScenarioError(
            expected(
                "labels.encoder",
                None,
                "be given for geometry = 'embedding'",
                "encoder = a sentence encoder's name or folder",
            )
        )
    vectors = np.asarray(embed(names), np.float64)
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise ScenarioError(
            expected(
                "labels.encoder: shape of the embeddings",
                vectors.shape,
                f"be ({len(names)}, width)",
                "an encoder that returns one vector per label name",
            )
        )
    _finite("labels.encoder", vectors, names)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (lengths == 0).any():
        silent = tuple(n for n, length in zip(names, lengths[:, 0], strict=True) if not length)
        raise ScenarioError(
            expected("labels.encoder", silent, "embed to a vector other than 0", "another encoder")
        )
    return np.asarray(vectors / lengths, np.float64)


def _read_matrix(labels: Labels, names: tuple[str, ...]) -> Floats:
    if labels.matrix is None:
        raise ScenarioError(
            "Expected labels.matrix to be given for geometry = 'matrix'. "
            "Try matrix = a csv or npy file with the cost between labels."
        )
    if labels.power != 1:
        raise ScenarioError(
            expected(
                "labels.power",
                labels.power,
                "be 1 for geometry = 'matrix', whose entries are the cost itself",
                "raising the entries of the file to that power",
            )
        )
    file = Path(labels.matrix)
    if not file.is_file() or file.suffix not in (".csv", ".npy"):
        raise ScenarioError(
            expected(
                "labels.matrix",
                labels.matrix,
                "be a csv or npy file",
                "a path relative to the current directory",
            )
        )
    try:
        raw = np.load(file) if file.suffix == ".npy" else np.loadtxt(file, delimiter=",", ndmin=2)
        return np.asarray(raw, np.float64)
    except (ValueError, OSError) as error:
        raise ScenarioError(
            expected(
                "labels.matrix",
                labels.matrix,
                f"hold {len(names)} lines of {len(names)} numbers ({error})",
                "numbers only, without a header, separated by commas",
            )
        ) from error


def _distances(points: Floats) -> Floats:
    return np.asarray(np.linalg.norm(points[:, None] - points[None], axis=-1), np.float64)


def _check_cost(cost: Floats, names: tuple[str, ...]) -> None:
    count = len(names)
    if cost.shape != (count, count):
        raise ScenarioError(
            expected(
                "ground cost: shape",
                cost.shape,
                f"be ({count}, {count}), a row and a column for each of {_listed(names)}",
                "one line per label, in this order",
            )
        )
    largest = float(np.abs(cost).max()) if np.isfinite(cost).all() else 1.0
    faults = (
        (~np.isfinite(cost), "be finite", "a number in its place"),
        (cost < 0, "be at least 0", "a distance"),
        (np.eye(count, dtype=bool) & (cost != 0), "be 0 on the diagonal", "0"),
        (np.abs(cost - cost.T) > 1e-9 * largest, "be symmetric", "the same value both ways"),
    )
    for fault, relation, remedy in faults:
        if fault.any():
            i, j = (int(k) for k in np.argwhere(fault)[0])
            value = float(cost[i, j])
            raise ScenarioError(
                expected(f"ground cost[{names[i]!r}, {names[j]!r}]", value, relation, remedy)
            )
    if count > 1 and not cost.any():
        raise ScenarioError(
            expected(
                "ground cost", 0.0, "differ from 0 somewhere", "labels at more than one position"
            )
        )


def _warnings(cost: Floats, geometry: Geometry) -> tuple[str, ...]:
    apart = cost[~np.eye(len(cost), dtype=bool)]
    if len(cost) < 3 or np.ptp(apart) > 1e-9 * apart.max():
        return ()
    return (
        f"the ground cost carries no semantics: geometry {geometry!r} puts all {len(cost)} labels "
        "equally far apart, so transport is total variation",
    )


def _finite(name: str, points: Floats, names: tuple[str, ...]) -> Floats:
    for label, point in zip(names, points, strict=True):
        if not np.isfinite(point).all():
            raise ScenarioError(
                expected(f"{name}[{label!r}]", point.tolist(), "be finite", "numbers")
            )
    return points


def _without(missing: tuple[str, ...]) -> str:
    return f" (missing: {_listed(missing)})" if missing else ""


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")

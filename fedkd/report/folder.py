"""What the report reads from and writes to a configuration's folder."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import DataError, expected
from fedkd.metrics.checks import check_predictions


@dataclass(frozen=True)
class SeedResult:
    """One finished seed: its folder and the content of its ``result.json``."""

    folder: Path
    seed: int
    values: dict[str, Any]


@dataclass(frozen=True)
class LabelFile:
    """The label set of a run as its ``labels.json`` tells it.

    ``cost`` (labels, labels) and ``coordinates`` (labels, d) or None.
    """

    names: tuple[str, ...]
    geometry: str
    cost: NDArray[np.float64]
    coordinates: NDArray[np.float64] | None


@dataclass(frozen=True)
class Predictions:
    """One row's predictions pooled over seeds: ``probs`` (n, labels), ``truth`` (n,)."""

    probs: NDArray[np.float64]
    truth: NDArray[np.int64]


def load_results(config_folder: Path) -> tuple[SeedResult, ...]:
    """Read ``<config_folder>/<seed>/result.json`` of every finished seed, in order of seeds.

    Raises :class:`DataError` where there is none or one cannot be read.
    """
    files = [f for f in config_folder.glob("*/result.json") if f.parent.name.isdecimal()]
    if not files:
        raise DataError(
            expected(
                "run folder",
                str(config_folder),
                "hold <seed>/result.json of at least one seed",
                "`fedkd run` first",
            )
        )
    results = []
    for file in sorted(files, key=lambda f: int(f.parent.name)):
        values = read_json(file)
        if not isinstance(values, dict) or not isinstance(values.get("methods"), dict):
            raise DataError(
                expected("result", str(file), "be the JSON of a finished seed", "that seed again")
            )
        results.append(SeedResult(file.parent, int(file.parent.name), values))
    return tuple(results)


def load_labels(seed_folder: Path) -> LabelFile | None:
    """Read a seed's ``labels.json``; None where it is missing or of another shape."""
    values = read_json(seed_folder / "labels.json")
    try:
        names = tuple(str(name) for name in values["names"])
        cost = np.asarray(values["cost"], np.float64)
        points = values.get("coordinates")
        coordinates = None if points is None else np.asarray(points, np.float64)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if cost.shape != (len(names), len(names)):
        return None
    if coordinates is not None and (coordinates.ndim != 2 or len(coordinates) != len(names)):
        return None
    return LabelFile(names, str(values.get("geometry", "")), cost, coordinates)


def load_predictions(results: tuple[SeedResult, ...], key: str) -> Predictions | None:
    """Read one method's or reference's test predictions and pool them over the seeds that have it.

    ``key`` is the row's name in ``result.json``. The float16 rows are put back on the simplex.
    None where no seed has usable ones.
    """
    probs, truth = [], []
    for result in results:
        try:
            with np.load(result.folder / "predictions.npz") as file:
                values = np.asarray(file[f"probs/{key}"], np.float64)
                labels = np.asarray(file["truth"]).astype(np.int64)
            check_predictions(values, labels)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, DataError):
            continue
        probs.append(values / values.sum(axis=1, keepdims=True))
        truth.append(labels)
    if not probs or len({p.shape[1] for p in probs}) > 1:
        return None
    return Predictions(np.concatenate(probs), np.concatenate(truth))


def read_json(file: Path) -> Any:
    """Return the file's JSON value, or None where it is missing or broken."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_text(file: Path) -> str | None:
    """Return the file's text, or None where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None

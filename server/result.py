"""The figures of one seed: every method and reference, measured on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.intake import Intake
from fedkd.metrics.scores import score
from fedkd.run.folder import RunFolder, write_arrays, write_json
from fedkd.transport.ground_cost import LabelSpace

SCHEMA = 1
Probabilities = NDArray[np.float64]


def reference_predictions(test: Intake) -> dict[str, Probabilities]:
    """Return what each teacher alone, their mean and their geometric mean say of the test set."""
    probs = test.probs(0, test.rows)
    geometric = np.exp(np.log(probs).mean(axis=0))
    geometric /= geometric.sum(axis=-1, keepdims=True)
    references = {f"teacher/{party}": probs[i] for i, party in enumerate(test.parties)}
    return references | {
        "teachers-mean": probs.mean(axis=0),
        "teachers-geometric-mean": geometric,
    }


def measure(
    predictions: Mapping[str, Probabilities],
    truth: NDArray[np.int64],
    owner: NDArray[np.int64],
    parties: list[str],
    space: LabelSpace,
) -> dict[str, dict[str, Any]]:
    """Return the measures of each prediction, pooled and on each party's own test rows."""
    measured = {}
    for key, probs in predictions.items():
        pooled: dict[str, Any] = asdict(score(probs, truth, space.cost, space.coordinates))
        own = {}
        for index, party in enumerate(parties):
            mine = owner == index
            if mine.any():
                own[party] = asdict(score(probs[mine], truth[mine], space.cost, space.coordinates))
        measured[key] = pooled | {"parties": own}
    return measured


def stage_seconds(folder: RunFolder) -> dict[str, float]:
    """Return the seconds of each stage, added up over resumed attempts."""
    seconds: dict[str, float] = {}
    for record in folder.records("events"):
        if record.get("event") == "stage":
            seconds[record["stage"]] = seconds.get(record["stage"], 0.0) + record["seconds"]
    return {stage: round(value, 3) for stage, value in seconds.items()}


def write_predictions(
    folder: RunFolder,
    predictions: Mapping[str, Probabilities],
    truth: NDArray[np.int64],
    owner: NDArray[np.int64],
) -> None:
    """Store every prediction on the test set, for the report's plots."""
    arrays: dict[str, NDArray[Any]] = {"truth": truth, "party": owner}
    for key, probs in predictions.items():
        arrays[f"probs/{key}"] = probs.astype(np.float16)
    write_arrays(folder.root / "predictions.npz", arrays)


def write_labels(folder: RunFolder, space: LabelSpace) -> None:
    """Store the label geometry."""
    coordinates = None if space.coordinates is None else space.coordinates.tolist()
    write_json(
        folder.root / "labels.json",
        {
            "names": list(space.names),
            "geometry": space.geometry,
            "cost": space.cost.tolist(),
            "coordinates": coordinates,
        },
    )

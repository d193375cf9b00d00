"""The two bounds of a simulated run: what a student could learn from true labels.

They need what no server has, so the simulation computes them, outside the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.files import read_json, read_rows, write_arrays, write_json
from fedkd.metrics.scores import score_parties
from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from fedkd.seeds import seed_for

TRANSFER = "student-transfer-labels"
POOLED = "student-pooled"


@dataclass(frozen=True)
class LabelledText:
    """Text with its true labels."""

    text: Sequence[str]
    label: NDArray[np.int64]


def has_bounds(folder: RunFolder) -> bool:
    """Whether the result of this seed holds the bounds."""
    return folder.result.is_file() and POOLED in read_json(folder.result)["references"]


def add_bounds(scenario: Scenario, seed: int, folder: RunFolder, parties: int) -> None:
    """Train the student on true labels, and add how it does to the result and its predictions.

    Once on the transfer set's, where it has labels, and once on all private data pooled. A bound
    that stands in ``bounds/`` already is not trained again.
    """
    transfer = read_rows(folder.public / "transfer.jsonl")["text"]
    with np.load(folder.truth, allow_pickle=False) as arrays:
        known, truth, owner = (arrays[n].astype(np.int64) for n in ("transfer", "test", "party"))
    found = {}
    if (known >= 0).all():
        found[TRANSFER] = _bound(scenario, seed, folder, TRANSFER, LabelledText(transfer, known))
    found[POOLED] = _bound(scenario, seed, folder, POOLED, _pool(folder, parties))
    with np.load(folder.predictions, allow_pickle=False) as arrays:
        predictions = {name: arrays[name] for name in arrays.files}
    for key, probs in found.items():
        predictions[f"probs/{key}"] = probs.astype(np.float16)
    write_arrays(folder.predictions, predictions)
    result, space = read_json(folder.result), read_json(folder.root / "labels.json")
    points = space["coordinates"]
    for key, probs in found.items():
        result["references"][key] = score_parties(
            probs,
            truth,
            owner,
            list(result["parties"]),
            cost=np.asarray(space["cost"]),
            coordinates=None if points is None else np.asarray(points),
        )
    write_json(folder.result, result)


def _pool(folder: RunFolder, parties: int) -> LabelledText:
    columns = [read_rows(folder.party(index) / "private.jsonl") for index in range(parties)]
    # Sorted, so that the bound does not depend on the order of the parties.
    rows = sorted((t, y) for c in columns for t, y in zip(c["text"], c["label"], strict=True))
    return LabelledText([t for t, _ in rows], np.array([y for _, y in rows], np.int64))


def _bound(
    scenario: Scenario, seed: int, folder: RunFolder, key: str, data: LabelledText
) -> NDArray[np.float64]:
    """Return the test probabilities of a student trained on ``data``, trained once a folder."""
    stored = folder.bounds / f"{key}.npz"
    if not stored.is_file():
        labels = len(read_json(folder.root / "federation.json")["labels"])
        draw = seed_for(seed, "server", 0, "student")
        public = read_rows(folder.public / "transfer.jsonl")["text"]
        with single_thread():
            student = classifier.build(
                scenario.student,
                labels,
                seed=draw,
                public_text=public,
                fit_text=data.text,
                cache=folder.root / "cache",
            )
            loss = training.hard_labels(data.label)
            training.fit(student, data.text, loss, scenario.student, seed=draw, progress=key)
            probs = training.predict(student, read_rows(folder.public / "test.jsonl")["text"])
        write_arrays(stored, {"test": probs})
    with np.load(stored, allow_pickle=False) as arrays:
        found: NDArray[np.float64] = arrays["test"].astype(np.float64)
    return found

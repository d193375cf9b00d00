"""The two bounds of a simulated run: what a student could learn from true labels.

They need what no server has, so the simulation computes them, outside the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.files import read_json, read_rows, write_arrays
from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from fedkd.seeds import seed_for


@dataclass(frozen=True)
class LabelledText:
    """Text with its true labels."""

    text: Sequence[str]
    label: NDArray[np.int64]


def compute_bounds(scenario: Scenario, seed: int, folder: RunFolder, parties: int) -> None:
    """Train the student on the transfer set's true labels, and on all private data pooled.

    Predictions on the test set go to ``bounds/``; a bound that is there already is kept, and the
    first is left out where the transfer set has no labels.
    """
    transfer = read_rows(folder.public / "transfer.jsonl")["text"]
    with np.load(folder.truth, allow_pickle=False) as arrays:
        known = arrays["transfer"].astype(np.int64)
    if (known >= 0).all():
        _bound(scenario, seed, folder, "student-transfer-labels", LabelledText(transfer, known))
    _bound(scenario, seed, folder, "student-pooled", _pool(folder, parties))


def _pool(folder: RunFolder, parties: int) -> LabelledText:
    columns = [read_rows(folder.party(index) / "private.jsonl") for index in range(parties)]
    # Sorted, so that the bound does not depend on the order of the parties.
    rows = sorted((t, y) for c in columns for t, y in zip(c["text"], c["label"], strict=True))
    return LabelledText([t for t, _ in rows], np.array([y for _, y in rows], np.int64))


def _bound(
    scenario: Scenario,
    seed: int,
    folder: RunFolder,
    key: str,
    data: LabelledText,
) -> None:
    stored = folder.bounds / f"{key}.npz"
    if stored.is_file():
        return
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

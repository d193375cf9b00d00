"""The embedding attack on a finished run whose parties released embeddings of public text."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedkd.files import read_rows
from fedkd.methods import parse_methods
from fedkd.privacy.attacks.embeddings import nearest_private
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from fedkd.subclass.split import Split

PROBE = "clients.probe"
MOST_ROWS = 2000


def embedding_attack(
    folder: RunFolder, scenario: Scenario, names: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return per party how near its released embeddings lie to its private rows; {} without any.

    The control are the party's held-out rows, as many as the private ones.
    """
    splits = [s for m in parse_methods(scenario.method) for kind, s in m.splits]
    embedded = {s.null_projection: s for s in splits}
    found: dict[str, Any] = {}
    for index, name in enumerate(names):
        files = sorted((folder.intake / name).glob("embeddings-*.npy"))
        if not files:
            continue
        if len(embedded) != 1:
            found[name] = {"n": 0, "reason": "methods embed in different spaces"}
            continue
        released = np.load(files[0], mmap_mode="r").astype(np.float64)
        released = released[np.isfinite(released).all(axis=1)]
        (split,) = embedded.values()
        private, control = (_embedded(folder, index, part, split) for part in ("private", "test"))
        found[name] = nearest_private(released, private, control, seed)
    return found


def _embedded(folder: RunFolder, index: int, part: str, split: Split) -> Any:
    texts = read_rows(folder.party(index) / f"{part}.jsonl").get("text", [])[:MOST_ROWS]
    if not texts:
        return np.empty((0, 1))
    return importlib.import_module(PROBE).probe_embeddings(folder.party(index), texts, split)

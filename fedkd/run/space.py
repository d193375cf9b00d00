"""The label spaces of a run: one for each geometry that the scenario or a method names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.methods.method import Method
from fedkd.scenario import Scenario
from fedkd.transport.ground_cost import LabelSpace, label_space


def spaces_for(
    scenario: Scenario, methods: Sequence[Method], federation: Mapping[str, Any], cache: Path | None
) -> dict[str, LabelSpace]:
    """Return the label space of each geometry in use, by the geometry's name.

    ``federation`` gives the label names and the catalogue's positions of them, if it has any.
    Raises :class:`~fedkd.errors.ScenarioError` where a geometry cannot be made.
    """
    named = [method.ground for method in methods if method.ground is not None]
    geometries = dict.fromkeys([scenario.labels.geometry, *named])

    def embed(names: Sequence[str]) -> NDArray[np.float64]:
        from fedkd.models.encoder import embed_texts  # noqa: PLC0415  # imports transformers

        return embed_texts(str(scenario.labels.encoder), names, cache)

    return {
        geometry: label_space(
            scenario.labels,
            federation["labels"],
            values=federation["values"],
            coordinates=federation["coordinates"],
            geometry=geometry,
            embed=None if scenario.labels.encoder is None else embed,
        )
        for geometry in geometries
    }

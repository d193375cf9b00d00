"""Barycentres are made once for an intake, and again for anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd.intake import Intake
from fedkd.methods import middle
from fedkd.methods.knot import Knot
from fedkd.scenario import Labels
from fedkd.transport.ground_cost import LabelSpace, label_space


def made(folder: Path, seed: int = 0) -> Intake:
    for name in ("a", "b", "c"):
        draw = np.random.default_rng([seed, ord(name)])
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / "probs.npy", draw.dirichlet(np.ones(4), 30).astype(np.float32))
    return Intake(folder, ("a", "b", "c"), 30, 4, np.array([1.0, 2.0, 3.0]))


def space(values: tuple[int, ...] = (0, 1, 2, 3)) -> LabelSpace:
    return label_space(Labels(geometry="hybrid", values=values), [str(i) for i in range(4)])


def test_the_second_call_reads_what_the_first_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, intake = Knot(objective="barycentre"), made(tmp_path)
    first = method.targets(intake, space())

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(middle, "barycentre", refuse)
    second = method.targets(intake, space())
    assert torch.equal(first.probs, second.probs)
    assert torch.equal(first.weights, second.weights)
    for other in (Knot(objective="barycentre", weights="uniform"),
                  Knot(objective="barycentre", epsilon=0.1)):  # fmt: skip
        with pytest.raises(AssertionError, match="made again"):
            other.targets(intake, space())
    with pytest.raises(AssertionError, match="made again"):
        method.targets(intake, space((0, 1, 2, 5)))
    with pytest.raises(AssertionError, match="made again"):
        method.targets(made(tmp_path, seed=1), space())

"""An intake on disk, made of given probabilities."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedkd.intake import Intake

MakeIntake = Callable[..., Intake]


@pytest.fixture
def make_intake(tmp_path: Path) -> MakeIntake:
    numbers = count()

    def make(
        probs: NDArray[np.float64],
        sizes: NDArray[np.float64] | None = None,
        bias: NDArray[np.float64] | None = None,
    ) -> Intake:
        teachers, rows, labels = probs.shape
        folder = tmp_path / f"intake-{next(numbers)}"
        names = tuple(f"party-{k:03d}" for k in range(teachers))
        for name, answers in zip(names, probs, strict=True):
            (folder / name).mkdir(parents=True)
            np.save(folder / name / "probs.npy", answers.astype(np.float32))
        return Intake(
            folder=folder,
            parties=names,
            rows=rows,
            labels=labels,
            sizes=np.ones(teachers) if sizes is None else sizes,
            bias=bias,
        )

    return make

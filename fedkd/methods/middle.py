"""Barycentres of the teachers, made once for an intake and kept with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedkd.files import write_arrays
from fedkd.intake import Intake
from fedkd.methods.weights import Floats
from fedkd.transport.barycentre import barycentre

FOLDER = ".barycentres"
VERSION = 1  # of the solver: another one must not find the old answers


@dataclass(frozen=True)
class Middle:
    """Barycentres (rows, labels) and the weights (rows, teachers) behind them, float32.

    ``restless`` is how many rows had not settled.
    """

    probs: Tensor
    weights: Tensor
    restless: int


def barycentres(
    intake: Intake, blocks: Iterable[tuple[Floats, Floats]], cost: Tensor, epsilon: float, how: str
) -> Middle:
    """Return the barycentre of every row, from the file of an earlier call where there is one.

    ``blocks`` yields probabilities (teachers, rows, labels) and weights (teachers, rows); ``how``
    names the weights. The file's name is a digest of all that the answer depends on.
    """
    path = intake.folder / FOLDER / f"{_address(intake, cost, epsilon, how)}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            probs, weights = (torch.from_numpy(kept[name]) for name in ("probs", "weights"))
            return Middle(probs, weights, int(kept["restless"]))
    made = _make(blocks, cost, epsilon)
    _keep(path, made)
    return made


def _make(blocks: Iterable[tuple[Floats, Floats]], cost: Tensor, epsilon: float) -> Middle:
    found, shares = [], []
    for probs, weights in blocks:
        answers = torch.from_numpy(probs.transpose(1, 0, 2).astype(np.float32))
        counted = torch.from_numpy(weights.T.astype(np.float32))
        found.append(barycentre(answers, counted, cost, epsilon))
        shares.append(counted)
    middle = torch.cat([probs for probs, _ in found]).float()
    return Middle(middle, torch.cat(shares), sum(count for _, count in found))


def _keep(path: Path, made: Middle) -> None:
    arrays = {"probs": made.probs.numpy(), "weights": made.weights.numpy()}
    write_arrays(path, arrays | {"restless": np.array(made.restless)})


def _address(intake: Intake, cost: Tensor, epsilon: float, how: str) -> str:
    digest = hashlib.sha256(f"{VERSION} {how} {epsilon!r} {intake.digest()}".encode())
    for part in (intake.sizes, intake.bias, intake.present, cost.numpy()):
        digest.update(b"none" if part is None else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:24]

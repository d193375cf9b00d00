"""Vectors of numbers as inputs, and a network of a few hidden layers on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedkd.errors import DataError, ModelError, expected
from fedkd.models.defaults import ResolvedModel
from fedkd.models.determinism import forked_generator
from fedkd.models.folder import (
    Card,
    check_names,
    read_card,
    read_weights,
    write_card,
    write_weights,
)
from fedkd.models.inputs import Rows, Vectors, as_rows
from fedkd.seeds import seed_for


def read_vectors(texts: Sequence[str], width: int | None = None) -> NDArray[np.float32]:
    """Return (n, D) float32 of texts that are numbers separated by spaces or commas.

    A vector travels as text, so transfer sets, fingerprints and party folders treat it as any
    other input. Raises :class:`DataError` for a word that is no finite number and for rows of
    different length.
    """
    rows: list[NDArray[np.float32]] = []
    for number, text in enumerate(texts):
        try:
            row = np.array(text.replace(",", " ").split(), np.float32)
        except ValueError:
            row = np.array([np.nan], np.float32)
        want = width or (len(rows[0]) if rows else len(row))
        if len(row) != want or not len(row) or not np.isfinite(row).all():
            raise DataError(
                expected(
                    f"vector {number}", f"{text[:40]}…", f"be {want} finite numbers",
                    "numbers separated by spaces, as many in every row",
                )
            )  # fmt: skip
        rows.append(row)
    return np.stack(rows) if rows else np.empty((0, width or 0), np.float32)


class Mlp(nn.Module):
    """Centred columns in one common unit, hidden layers with ReLU, and a linear layer.

    One unit for all columns, because a column that hardly varies in a few rows (a pixel at the
    edge) would drown the rest if it were given unit variance; columns that measure different
    things should come standardised.
    """

    def __init__(self, columns: int, widths: Sequence[int], labels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("scale", torch.ones(()))
        sizes = (columns, *widths)
        pairs = pairwise(sizes)
        layers = [module for a, b in pairs for module in (nn.Linear(a, b), nn.ReLU())]
        self.hidden = nn.Sequential(*layers)
        self.out = nn.Linear(sizes[-1], labels)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits (batch, labels)."""
        standard = (vectors - self.mean) / self.scale
        logits: Tensor = self.out(self.hidden(standard))
        return logits


@dataclass(frozen=True)
class MlpClassifier:
    """A network on vectors; always on the CPU."""

    labels: int
    module: Mlp

    def inputs(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors that the texts spell."""
        return Vectors(read_vectors(texts, len(self.module.mean)))

    def logits(self, inputs: Vectors, rows: Tensor | Rows) -> Tensor:
        """Return logits (batch, labels) float32 of the given row numbers."""
        logits: Tensor = self.module(**inputs.batch(as_rows(rows)))
        return logits

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write weights, label names and a README into ``folder``."""
        names = check_names(label_names, self.labels)
        linear = [m for m in self.module.hidden if isinstance(m, nn.Linear)]
        values = {"columns": len(self.module.mean), "widths": [m.out_features for m in linear]}
        write_card(folder, Card("mlp", names, values))
        write_weights(folder, self.module.state_dict())


def build_mlp(
    model: ResolvedModel, labels: int, *, seed: int, fit_text: Sequence[str]
) -> MlpClassifier:
    """Return an untrained network; ``fit_text`` sets the columns' means and their common spread.

    The weights are drawn from the input on, so students with different heads share their trunk.
    """
    known = read_vectors(fit_text)
    if not len(known):
        raise ModelError(expected("fit_text", [], "hold vectors", "a source with rows"))
    with forked_generator(seed_for(seed, "", 0, "initial weights")):
        module = Mlp(known.shape[1], model.widths, labels)
    spread = known.std(axis=0, dtype=np.float64)
    unit = float(np.sqrt((spread[spread > 0] ** 2).mean())) if spread.any() else 1.0
    module.mean.copy_(torch.from_numpy(known.mean(axis=0, dtype=np.float64)))
    module.scale.fill_(unit)
    return MlpClassifier(labels, module)


def load_mlp(folder: Path) -> MlpClassifier:
    """Read what :meth:`MlpClassifier.save` wrote."""
    card, tensors = read_card(folder), read_weights(folder)
    try:
        columns, widths = int(card.values["columns"]), [int(w) for w in card.values["widths"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            expected("fedkd.json", str(folder), f"describe a network ({error!r})", "saving it anew")
        ) from error
    with forked_generator(0):
        module = Mlp(columns, widths, len(card.labels))
    module.load_state_dict(tensors)
    module.eval()
    return MlpClassifier(len(card.labels), module)

"""Students whose last hidden layer is seen in training, with a module that learns beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedkd.models.classifier import Classifier
from fedkd.models.embeddings import last_layer, watched
from fedkd.models.inputs import Rows
from fedkd.models.training import LossFunction


@dataclass(frozen=True)
class Tapped:
    """A classifier that gives its logits, and beside them what its last layer reads.

    ``beside`` maps that layer (batch, width) and row numbers (batch,) to a scalar; its parameters
    are trained with the classifier's and are no part of what is saved.
    """

    fine: Classifier
    beside: nn.Module

    @property
    def labels(self) -> int:
        """Number of the classifier's outputs."""
        return self.fine.labels

    @property
    def module(self) -> nn.Module:
        """The weights of both."""
        return nn.ModuleList([self.fine.module, self.beside])

    def inputs(self, texts: Sequence[str]) -> Any:
        """Return the texts featurised."""
        return self.fine.inputs(texts)

    def logits(self, inputs: Any, rows: Tensor | Rows) -> Tensor:
        """Return (batch, labels + width) of the given row numbers."""
        with watched(last_layer(self.fine)) as seen:
            logits = self.fine.logits(inputs, rows)
        return torch.cat([logits, seen.pop().to(logits.dtype)], dim=1)

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write the classifier alone."""
        self.fine.save(folder, label_names)

    def hint(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return what the module beside says of outputs (batch, labels + width), a loss."""
        found: Tensor = self.beside(outputs[:, self.labels :], rows)
        return found

    def both(self, loss: LossFunction) -> LossFunction:
        """Return a loss of the logits together with the hint."""
        return lambda outputs, rows: (
            loss(outputs[:, : self.labels], rows) + self.hint(outputs, rows)
        )

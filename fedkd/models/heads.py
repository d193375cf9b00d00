"""Students that answer for several subclasses of each label, and how their outputs become one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedkd.errors import ModelError, expected

if TYPE_CHECKING:
    from fedkd.models.classifier import Classifier
    from fedkd.models.inputs import Rows

FILE = "subclasses.json"
_NOTE = """
This student was trained on {count} subclasses of each label ({heads} sets of them). `load` adds
them up; with plain transformers, add up the probabilities of `label/…` yourself.
"""


@dataclass(frozen=True)
class Layout:
    """How a student's outputs are read: (heads, labels, subclasses), flattened in that order."""

    heads: int = 1
    subclasses: int = 1

    def outputs(self, labels: int) -> int:
        """Return how many outputs a student of so many labels has."""
        return self.heads * labels * self.subclasses

    def unfold(self, outputs: Tensor) -> Tensor:
        """Return (batch, heads, labels, subclasses) of outputs (batch, heads·labels·subclasses)."""
        return outputs.reshape(len(outputs), self.heads, -1, self.subclasses)

    def collapse(self, outputs: Tensor) -> Tensor:
        """Return label logits (batch, labels): the mean over heads of log Σ_s exp f.

        For one head their softmax is Σ_s softmax(f): a label is as likely as its subclasses
        together.
        """
        return self.unfold(outputs).logsumexp(dim=3).mean(dim=1)

    def names(self, label_names: Sequence[str]) -> tuple[str, ...]:
        """Return a name for each output."""
        return tuple(
            f"{name}/{head}.{number}"
            for head in range(self.heads)
            for name in label_names
            for number in range(self.subclasses)
        )


PLAIN = Layout()


@dataclass(frozen=True)
class Collapsed:
    """A classifier of subclasses that answers for labels."""

    labels: int
    fine: Classifier
    layout: Layout

    @property
    def module(self) -> torch.nn.Module:
        """The weights of the classifier of subclasses."""
        return self.fine.module

    def inputs(self, texts: Sequence[str]) -> Any:
        """Return the texts featurised."""
        return self.fine.inputs(texts)

    def logits(self, inputs: Any, rows: Tensor | Rows) -> Tensor:
        """Return logits (batch, labels) of the given row numbers."""
        return self.layout.collapse(self.fine.logits(inputs, rows))

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write the classifier of subclasses and, beside it, how its outputs belong together."""
        if len(label_names) != self.labels:
            raise ModelError(
                expected("label_names", list(label_names), f"hold {self.labels} names", "one each")
            )
        self.fine.save(folder, self.layout.names(label_names))
        facts = {
            "labels": list(label_names),
            "heads": self.layout.heads,
            "subclasses": self.layout.subclasses,
        }
        (folder / FILE).write_text(
            json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        with (folder / "README.md").open("a", encoding="utf-8") as file:
            file.write(_NOTE.format(count=self.layout.subclasses, heads=self.layout.heads))


def read_layout(folder: Path) -> tuple[tuple[str, ...], Layout] | None:
    """Return label names and layout of a saved student, or None where it has plain labels."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        layout = Layout(int(facts["heads"]), int(facts["subclasses"]))
        return tuple(str(name) for name in facts["labels"]), layout
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            expected(FILE, str(file), f"describe subclasses ({error!r})", "saving it anew")
        ) from error

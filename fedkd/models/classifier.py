"""The one interface of the three kinds of text classifier; building and loading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fedkd.errors import ModelError, expected
from fedkd.models.defaults import defaults
from fedkd.models.folder import read_card
from fedkd.models.heads import Collapsed, read_layout
from fedkd.models.inputs import Rows
from fedkd.scenario import Model


class Classifier(Protocol):
    """A text classifier: features of texts, made once, and a torch module on them.

    What ``inputs`` returns is an :class:`~fedkd.models.inputs.Inputs` that only a classifier with
    the same features can read; a student trained again on the same texts may reuse it.
    """

    @property
    def labels(self) -> int:
        """Number of labels."""

    @property
    def module(self) -> torch.nn.Module:
        """The weights that training changes."""

    def inputs(self, texts: Sequence[str]) -> Any:
        """Return the texts featurised: sparse rows, embeddings or token ids."""

    def logits(self, inputs: Any, rows: Tensor | Rows) -> Tensor:
        """Return logits (batch, labels) of the given row numbers (batch,) of ``inputs``."""

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write weights (safetensors), label names and a README; :func:`load` reads it back."""


def build(
    model: Model,
    labels: int,
    *,
    seed: int,
    public_text: Sequence[str],
    fit_text: Sequence[str],
    cache: Path | None = None,
) -> Classifier:
    """Return an untrained classifier of ``labels`` labels.

    ``public_text`` (the transfer set) trains the tokenizer of a transformer without a name;
    ``fit_text`` (the rows it will be trained on) sets a bag of words' idf; ``cache`` is a folder
    for an encoder's embeddings. Raises :class:`ModelError`.
    """
    settings = defaults(model)
    if labels < 1:
        raise ModelError(expected("labels", labels, "be at least 1", "a label list"))
    match settings.kind:
        case "bow":
            from fedkd.models.bow import build_bow  # noqa: PLC0415

            return build_bow(settings, labels, seed=seed, fit_text=fit_text)
        case "encoder":
            from fedkd.models.encoder import build_encoder  # noqa: PLC0415

            return build_encoder(settings, labels, seed=seed, cache=cache)
        case "transformer":
            from fedkd.models.transformer import build_transformer  # noqa: PLC0415

            return build_transformer(settings, labels, seed=seed, public_text=public_text)
        case "mlp":
            from fedkd.models.mlp import build_mlp  # noqa: PLC0415

            return build_mlp(settings, labels, seed=seed, fit_text=fit_text)


def load(folder: Path, cache: Path | None = None) -> Classifier:
    """Read a classifier that was saved; ``fedkd.json`` tells its kind. Raises ModelError.

    One that was trained on subclasses answers for the labels that they belong to.
    """
    fine = _load(folder, cache)
    known = read_layout(folder)
    return fine if known is None else Collapsed(len(known[0]), fine, known[1])


def label_names(folder: Path) -> tuple[str, ...]:
    """Return the label names of a saved classifier, in the order of its probabilities."""
    known = read_layout(folder)
    return read_card(folder).labels if known is None else known[0]


def _load(folder: Path, cache: Path | None) -> Classifier:
    match read_card(folder).kind:
        case "bow":
            from fedkd.models.bow import load_bow  # noqa: PLC0415

            return load_bow(folder)
        case "encoder":
            from fedkd.models.encoder import load_encoder  # noqa: PLC0415

            return load_encoder(folder, cache)
        case "transformer":
            from fedkd.models.transformer import load_transformer  # noqa: PLC0415

            return load_transformer(folder)
        case "mlp":
            from fedkd.models.mlp import load_mlp  # noqa: PLC0415

            return load_mlp(folder)

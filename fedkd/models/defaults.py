"""The values a model takes where the scenario gives none, by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedkd.errors import ModelError, expected
from fedkd.scenario import Model, ModelKind


@dataclass(frozen=True)
class ResolvedModel:
    """A model with every value given. A kind reads only its own fields, see :data:`FIELDS`.

    ``learning_rate`` is AdamW's step size, ``weight_decay`` its decoupled decay, ``epochs`` the
    most passes over the rows, ``patience`` the epochs without a lower held-out loss before
    stopping and ``held_out`` the share of rows that loss is measured on. ``steps`` above 0 replaces
    these three: so many steps on all rows with a cosine schedule, and the last weights are kept.
    """

    kind: ModelKind
    name: str | None
    features: int
    hidden: int
    widths: tuple[int, ...]
    layers: int
    width: int
    heads: int
    vocabulary: int
    max_tokens: int
    epochs: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    patience: int
    held_out: float
    steps: int


TRAINING = (
    "epochs", "learning_rate", "weight_decay", "batch_size", "patience", "held_out", "steps",
)  # fmt: skip

FIELDS: dict[ModelKind, tuple[str, ...]] = {
    "bow": ("features", "hidden", *TRAINING),
    "encoder": ("name", "hidden", "max_tokens", *TRAINING),
    "transformer": (
        "name", "layers", "width", "heads", "vocabulary", "max_tokens", *TRAINING,
    ),
    "mlp": ("widths", *TRAINING),
}  # fmt: skip

_COMMON: dict[str, Any] = {
    "name": None,
    "features": 2**18,
    "hidden": 0,
    "widths": (64,),
    "layers": 2,
    "width": 128,
    "heads": 2,
    "vocabulary": 4096,
    "max_tokens": 128,
    "weight_decay": 0.01,
    "held_out": 0.12,
    "steps": 0,
}


def _training(model: Model) -> dict[str, Any]:
    """Return a kind's training values, measured on amazon_stars, sst5 and meld.

    A nameless transformer learns nothing for its first epochs on few rows, hence its patience.
    """
    if model.model == "bow":
        rate = 0.005 if model.hidden else 0.02
        return {"epochs": 60, "learning_rate": rate, "batch_size": 64, "patience": 3}
    if model.model == "encoder":
        head = {"hidden": 64, "learning_rate": 0.001}
        return {**head, "epochs": 60, "batch_size": 64, "patience": 5}
    if model.model == "mlp":
        return {"epochs": 100, "learning_rate": 0.005, "batch_size": 64, "patience": 10}
    if model.name is None:
        return {"epochs": 30, "learning_rate": 5e-4, "batch_size": 32, "patience": 5}
    return {"epochs": 10, "learning_rate": 5e-5, "batch_size": 32, "patience": 2}


def embedding_width(model: ResolvedModel) -> int | None:
    """Return the width of what the last layer reads, where the values tell."""
    match model.kind:
        case "mlp":
            return model.widths[-1]
        case "bow" | "encoder":
            return model.hidden or None
        case "transformer":
            return model.width if model.name is None else None


def defaults(model: Model) -> ResolvedModel:
    """Return the model with every absent value filled by its kind's default.

    Raises :class:`ModelError` for an encoder without a name and for a width that its heads
    cannot share.
    """
    given = model.model_dump(exclude={"model", "subclasses"}, exclude_none=True)
    resolved = ResolvedModel(kind=model.model, **(_COMMON | _training(model) | given))
    if resolved.kind == "encoder" and resolved.name is None:
        raise ModelError(
            expected(
                "model.name", None, "name a sentence encoder for model = 'encoder'",
                "name = './folder' of a local copy",
            )
        )  # fmt: skip
    if resolved.kind == "transformer" and resolved.name is None and resolved.width % resolved.heads:
        raise ModelError(
            expected(
                "model.width", resolved.width, f"be a multiple of heads={resolved.heads}",
                f"width = {resolved.heads * max(1, round(resolved.width / resolved.heads))}",
            )
        )  # fmt: skip
    return resolved

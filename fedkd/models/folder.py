"""The folder of a saved model: ``fedkd.json`` says what it is, safetensors hold the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
from torch import Tensor

from fedkd.errors import ModelError, expected
from fedkd.scenario import ModelKind

CARD = "fedkd.json"
WEIGHTS = "model.safetensors"
SCHEMA = 1

_USE = """# Text classifier ({kind})

Labels, in order: {labels}.

Made by [fedkd](https://pypi.org/project/fedkd/). To use it:

```python
{code}
```
"""
_CODE = """from pathlib import Path

from fedkd.models.classifier import label_names, load
from fedkd.models.training import predict

folder = Path("this folder")
classifier = load(folder)
probabilities = predict(classifier, ["a text"])  # (texts, labels)
print(label_names(folder)[probabilities[0].argmax()])"""


@dataclass(frozen=True)
class Card:
    """What ``fedkd.json`` holds: the kind, the label names in order and the kind's own values."""

    kind: ModelKind
    labels: tuple[str, ...]
    values: Mapping[str, Any]


def write_card(folder: Path, card: Card, code: str = _CODE) -> None:
    """Write ``fedkd.json`` and ``README.md`` into the folder, which is made where absent."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema": SCHEMA, "kind": card.kind, "labels": card.labels, **card.values}
    (folder / CARD).write_text(
        json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    text = _USE.format(kind=card.kind, labels=", ".join(card.labels), code=code)
    (folder / "README.md").write_text(text, encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Read ``fedkd.json``, or raise :class:`ModelError` saying what is wrong with it."""
    file = folder / CARD
    if not file.is_file():
        raise ModelError(
            expected("folder", str(folder), f"hold {CARD}", "a folder that a fedkd model saved")
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        schema, kind = content.pop("schema"), content.pop("kind")
        labels = tuple(str(label) for label in content.pop("labels"))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            expected(CARD, str(file), f"describe a model ({error!r})", "saving the model anew")
        ) from error
    if schema != SCHEMA or kind not in get_args(ModelKind):
        raise ModelError(
            expected(
                f"{CARD}: schema, kind", (schema, kind),
                f"be {SCHEMA} and one of {', '.join(get_args(ModelKind))}", "a newer fedkd",
            )
        )  # fmt: skip
    return Card(kind, labels, content)


def check_names(label_names: Sequence[str], labels: int) -> tuple[str, ...]:
    """Return the label names, or raise :class:`ModelError` unless there is one per label."""
    if len(label_names) != labels:
        raise ModelError(
            expected("label_names", list(label_names), f"hold {labels} names", "one per label")
        )
    return tuple(label_names)


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to ``model.safetensors``."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, folder / WEIGHTS)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors``, or raise :class:`ModelError`."""
    file = folder / WEIGHTS
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            expected("weights", str(file), f"be a safetensors file ({error})", "saving it anew")
        ) from error
    return tensors

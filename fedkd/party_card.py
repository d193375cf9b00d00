"""The party's card: what its operator wrote down, and nothing that the server may change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedkd.scenario import Faults, Model

FILE = "party.json"


@dataclass(frozen=True)
class PartyCard:
    """A party's standing facts, kept in ``party.json`` in its own folder.

    ``public`` is the folder of the public texts, relative to the party's folder. ``seed`` is the
    run seed from which the party derives its own draws.
    """

    name: str
    seed: int
    labels: tuple[str, ...]
    teacher: Model
    encoding: Literal["float32", "float16"]
    bias: Literal["mean", "argmax"]
    bias_inputs: int
    public: str
    faults: Faults = field(default_factory=Faults)

    def write(self, folder: Path) -> None:
        """Write the card into the party's folder."""
        values = asdict(self) | {
            "teacher": self.teacher.model_dump(exclude_none=True),
            "faults": self.faults.model_dump(exclude_unset=True),
        }
        (folder / FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_card(folder: Path) -> PartyCard:
    """Read the card in a party's folder."""
    values: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    labels = tuple(values.pop("labels"))
    teacher = Model(**values.pop("teacher"))
    faults = Faults(**values.pop("faults", {}))
    return PartyCard(labels=labels, teacher=teacher, faults=faults, **values)

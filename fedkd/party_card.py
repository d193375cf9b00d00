"""The party's card: what its operator wrote down, and nothing that the server may change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedkd.encoding import Encoding
from fedkd.fault_scenario import Faults
from fedkd.scenario import Model, Scenario

FILE = "party.json"
DELIVERED = "public"


@dataclass(frozen=True)
class PartyCard:
    """A party's standing facts, kept in ``party.json`` in its own folder.

    ``public`` is the folder of the public texts, relative to the party's folder. ``seed`` is the
    run seed from which the party derives its own draws. A ``deployed`` party mixes a secret of its
    own into the noise that protects it; a simulated one does not, so that runs can be repeated.
    With ``secure_sum`` no answer of its own leaves: only a masked one, as part of a sum.
    """

    name: str
    seed: int
    labels: tuple[str, ...]
    teacher: Model
    encoding: Encoding
    bias: Literal["mean", "argmax"]
    bias_inputs: int
    public: str
    faults: Faults = field(default_factory=Faults)
    top: int = 8
    secure_sum: bool = False
    deployed: bool = False

    def write(self, folder: Path) -> None:
        """Write the card into the party's folder."""
        values = asdict(self) | {
            "teacher": self.teacher.model_dump(exclude_none=True),
            "faults": self.faults.model_dump(exclude_unset=True),
        }
        (folder / FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def card_for(
    scenario: Scenario,
    seed: int,
    name: str,
    *,
    labels: tuple[str, ...],
    teacher: Model,
    own_texts: str,
    deployed: bool = False,
) -> PartyCard:
    """Return the card of a party that takes part in a scenario with one seed.

    ``own_texts`` is where it finds the public texts, relative to its folder, unless the server
    delivers them.
    """
    delivered = scenario.data.transfer.delivery == "server"
    return PartyCard(
        name=name,
        seed=seed,
        labels=labels,
        teacher=teacher,
        encoding=scenario.release.encoding,
        top=scenario.release.top,
        bias=scenario.release.bias,
        bias_inputs=scenario.release.bias_inputs,
        public=DELIVERED if delivered else own_texts,
        faults=scenario.faults,
        secure_sum=scenario.privacy is not None and scenario.privacy.secure_sum,
        deployed=deployed,
    )


def read_card(folder: Path) -> PartyCard:
    """Read the card in a party's folder."""
    values: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    labels = tuple(values.pop("labels"))
    teacher = Model(**values.pop("teacher"))
    faults = Faults(**values.pop("faults", {}))
    return PartyCard(labels=labels, teacher=teacher, faults=faults, **values)

"""The scenario's reference: every key, each method's own, and each kind of model's defaults."""

from __future__ import annotations

from dataclasses import asdict
from typing import get_args

from pydantic import BaseModel

from fedkd.methods import known_methods
from fedkd.models.defaults import FIELDS, defaults
from fedkd.scenario import Model, ModelKind, Scenario
from fedkd.schema import schema_lines
from fedkd.topics.method import TopicMethod


def schema_text() -> str:
    """Return every key of a scenario, each method's own keys and each model kind's defaults."""
    lines = list(schema_lines(Scenario))
    methods: dict[str, type[BaseModel]] = {**known_methods(), "topics": TopicMethod}
    for name, method in methods.items():
        lines += ["", f'# keys of [[method]] with name = "{name}"']
        lines += [line for line in schema_lines(method) if not line.startswith("name =")]
    for kind in get_args(ModelKind):
        known = Model(model=kind, name="…" if kind == "encoder" else None)
        lines += ["", f'# where absent, model = "{kind}" takes']
        for key, value in asdict(defaults(known)).items():
            if key in FIELDS[kind] and key != "name":
                lines.append(f"{key} = {value}")
    return "\n".join(lines)

"""Distillation methods: one file each, found by name."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any, get_args

from pydantic import ValidationError

from fedkd.errors import ScenarioError, expected
from fedkd.methods.method import Method, Targets
from fedkd.scenario import MethodSpec

__all__ = ["Method", "Targets", "known_methods", "parse_methods"]


def known_methods() -> dict[str, type[Method]]:
    """Return every method of this folder's modules by the name a scenario calls it."""
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Method):
                names = get_args(value.model_fields["name"].annotation)
                found |= dict.fromkeys(names, value)
    return dict(sorted(found.items()))


def parse_methods(specs: Sequence[MethodSpec]) -> tuple[Method, ...]:
    """Return the methods a scenario lists, in order.

    Raises :class:`ScenarioError` for an unknown name, key or value, and for two methods with the
    same key.
    """
    known = known_methods()
    methods: list[Method] = []
    for number, spec in enumerate(specs):
        if spec.name not in known:
            raise ScenarioError(
                expected(
                    f"method.{number}.name",
                    spec.name,
                    "be a known method",
                    "a [topics] table, on backend inline or ray"
                    if spec.name == "topics"
                    else f"one of: {', '.join(known)}",
                )
            )
        kind = known[spec.name]
        try:
            method = kind(**spec.model_dump())
        except ValidationError as error:
            raise ScenarioError(
                "\n".join(_explain(dict(fault), number, kind) for fault in error.errors())
            ) from error
        if method.key in (other.key for other in methods):
            raise ScenarioError(
                expected(
                    f"method.{number}",
                    method.key,
                    "differ from the methods before it",
                    f"label = '{method.key}-2', or other weights",
                )
            )
        methods.append(method)
    return tuple(methods)


def _explain(fault: dict[str, Any], number: int, kind: type[Method]) -> str:
    key = ".".join((f"method.{number}", *(str(part) for part in fault["loc"])))
    message = str(fault["msg"]).removeprefix("Value error, ")
    if message.startswith("Expected"):
        return f"{key}: {message}"
    if fault["type"] == "extra_forbidden":
        keys = ", ".join(kind.model_fields)
        return expected(key, fault["input"], "be a key of this method", f"one of: {keys}")
    relation = message.removeprefix("Input should ")
    return expected(key, fault["input"], relation, "`fedkd check --schema`")

"""The scenario's keys in words, read off the types themselves."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


def schema_lines(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield ``key = default   type   meaning`` for every key, tables after plain keys."""
    tables: list[tuple[str, type[BaseModel], bool]] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        inner = _table_in(field.annotation)
        if inner is not None:
            tables.append((f"{prefix}{key}", inner, _is_list(field.annotation)))
        else:
            yield _line(key, field)
    for path, inner, repeated in tables:
        yield ""
        yield f"[[{path}]]" if repeated else f"[{path}]"
        if inner.__doc__:
            yield f"# {inner.__doc__.strip().splitlines()[0]}"
        yield from schema_lines(inner, f"{path}.")


def keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the keys that the table at this location may hold; empty where there is no table."""
    current: type[BaseModel] | None = model
    for part in location:
        if part.isdecimal() or current is None:
            continue
        fields = {field.alias or name: field for name, field in current.model_fields.items()}
        current = _table_in(fields[part].annotation) if part in fields else None
    if current is None:
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _line(key: str, field: FieldInfo) -> str:
    default = "(required)" if field.is_required() else _default(field)
    head = f"{key} = {default}"
    return f"{head:<34} # {_type_name(field.annotation)}: {field.description or key}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=False)
    if value is PydanticUndefined or value is None:
        return "(absent)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return str(list(value))
    return str(value)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _table_in(argument)
        if found is not None:
            return found
    return None


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) is tuple:
        return True
    return any(_is_list(argument) for argument in get_args(annotation))


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(_type_name(a) for a in arguments if a is not type(None))
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "table"
    return {"int": "integer", "str": "text", "bool": "true | false", "float": "number"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )

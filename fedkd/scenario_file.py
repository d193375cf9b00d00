"""The scenario file: reading it, laying overrides over it, and saying what is wrong with it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from fedkd.errors import ScenarioError, expected
from fedkd.scenario import Scenario
from fedkd.schema import keys_at


def load_scenario(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario file and lay ``a.b=value`` overrides over it.

    Raises :class:`ScenarioError` naming file, key, value and remedy.
    """
    file = Path(path)
    if not file.is_file():
        raise ScenarioError(
            expected("scenario", str(path), "be a file", "a path such as scenarios/quickstart.toml")
        )
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(
            f"Expected {file} to be TOML: {error}. Try mending that line"
        ) from error
    for override in overrides:
        _lay_over(values, override)
    return parse_scenario(values, str(file), file.read_text(encoding="utf-8"))


def dump_scenario(scenario: Scenario) -> str:
    """Return the effective scenario as TOML text that :func:`load_scenario` reads back."""
    values = scenario.model_dump_json(by_alias=True, exclude_unset=True, exclude_none=True)
    return tomli_w.dumps(json.loads(values))


def parse_scenario(values: dict[str, Any], origin: str = "scenario", text: str = "") -> Scenario:
    """Turn plain values into a :class:`Scenario`, or raise :class:`ScenarioError`."""
    try:
        return Scenario(**values)
    except ValidationError as error:
        raise ScenarioError(
            "\n".join(_explain(e, origin, text) for e in error.errors())  # type: ignore[arg-type]
        ) from error


def _lay_over(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ScenarioError(expected("--set", override, "read key=value", "--set seeds=[0,1]"))
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *path, last = key.strip().split(".")
    node: Any = values
    for part in path:
        node = _step(node, part, override)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    else:
        node[last] = value


def _step(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, override)]
    child = node.setdefault(part, {})
    if not isinstance(child, dict | list):
        raise ScenarioError(
            expected("--set", override, f"name a table at {part!r}", "the key as in the file")
        )
    return child


def _index(node: list[Any], part: str, override: str) -> int:
    if part.isdecimal() and int(part) < len(node):
        return int(part)
    raise ScenarioError(
        expected("--set", override, f"number one of {len(node)} entries", "method.0.weights=size")
    )


def _explain(error: dict[str, Any], origin: str, text: str) -> str:
    # A value of several types is named once for each of them.
    location = [str(part) for part in error["loc"] if not str(part).startswith("constrained-")]
    key = ".".join(location)
    line = _line_of(text, location)
    where = f"{origin}:{line}" if line else origin
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        message = f"this key is unknown. Try one of: {', '.join(known)}" if known else "unknown key"
    elif error["type"] == "missing":
        return f"{where}: Expected {key} to be given. Try adding {location[-1]} = …"
    elif not message.startswith("Expected"):
        message = f"{message[0].lower()}{message[1:]}. Try `fedkd check --schema`"
    if message.startswith("Expected"):
        return f"{where}: {key}: {message}" if key else f"{where}: {message}"
    return f"{where}: Expected {key}={error.get('input')!r} to be valid: {message}"


def _known_keys(location: list[str]) -> list[str]:
    return keys_at(Scenario, location)


def _line_of(text: str, location: list[str]) -> int | None:
    names = [part for part in location if not part.isdecimal()]
    if not names or not text:
        return None
    for number, line in enumerate(text.splitlines(), 1):
        head = line.split("#")[0].split("=")[0].strip(" []\t")
        if head == names[-1] or head.endswith(f".{names[-1]}"):
            return number
    return None

"""The party's policy: the last word on what leaves it, in ``policy.toml`` on its own disk."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from fedkd.errors import PolicyError, expected
from fedkd.files import write_text
from fedkd.privacy.settings import Mechanism, Terms

FILE = "policy.toml"
Number = TypeVar("Number", int, float)


def read_policy(folder: Path) -> Terms | None:
    """Return the policy in a party's folder, or None where it has written none.

    Raises :class:`PolicyError` naming the line where the file does not parse: a party whose policy
    cannot be read must not guess it.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8")
        return parse_policy(tomllib.loads(text), text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"Expected {FILE} to be TOML: {error}. Try mending that line.") from error


def parse_policy(values: dict[str, Any], text: str = "") -> Terms:
    """Turn plain values into terms; raises :class:`PolicyError` naming key and line."""
    try:
        return Terms(**values)
    except ValidationError as error:
        first = error.errors()[0]
        location = [str(part) for part in first["loc"]]
        message = str(first["msg"]).removeprefix("Value error, ")
        named = re.match(r"Expected (\w+)", message)
        key, line = ".".join(location), _line_of(text, location or [named[1] if named else ""])
        where = f"{FILE}:{line}" if line else FILE
        if first["type"] == "extra_forbidden":
            message = f"Expected {key} to be a key of a policy. Try fedkd check --schema"
        elif not message.startswith("Expected"):
            value = first.get("input")
            message = f"Expected {key}={value!r} to be valid: {message}. Try fedkd check --schema"
        raise PolicyError(f"{where}: {message}.".replace("..", ".")) from error


def write_policy(folder: Path, terms: Terms) -> None:
    """Write the terms as the policy of the party whose folder this is."""
    values = json.loads(terms.model_dump_json(exclude_unset=True, exclude_none=True))
    head = "# What this party lets out, and at what price. The party alone reads and changes it.\n"
    write_text(folder / FILE, head + tomli_w.dumps(values))


def stricter(own: Terms, asked: Terms) -> Terms:
    """Return the party's terms with those of a scenario laid over where they are stricter.

    Raises :class:`PolicyError` where the scenario asks for what the policy does not allow.
    """
    if own.unit and asked.unit and own.unit != asked.unit:
        raise PolicyError(
            expected("privacy.unit", asked.unit, f"be the policy's {own.unit!r}", "that unit")
        )
    requests = own.requests
    if asked.requests is not None:
        requests = tuple(k for k in asked.requests if requests is None or k in requests)
    values = {
        "unit": own.unit or asked.unit,
        "epsilon": _least(own.epsilon, asked.epsilon),
        "delta": min(own.delta, asked.delta),
        "words_epsilon": _least(own.words_epsilon, asked.words_epsilon),
        "mechanism": _mechanism(own, asked.mechanism),
        "accepts": own.accepts,
        "requests": requests,
        "most_rows": _least(own.most_rows, asked.most_rows),
        "most_bytes": _least(own.most_bytes, asked.most_bytes),
        "minimum_rows": max(own.minimum_rows, asked.minimum_rows),
        "near_duplicates": _least(own.near_duplicates, asked.near_duplicates),
    }
    given = {key: value for key, value in values.items() if value is not None}
    return parse_policy(given)


def check_terms(terms: Terms, rows: int) -> None:
    """Raise :class:`PolicyError` unless the terms mean something for a party of ``rows`` rows."""
    if rows < terms.minimum_rows:
        raise PolicyError(
            expected("private rows", "fewer", f"be at least minimum_rows={terms.minimum_rows}",
                     "taking part with more rows")
        )  # fmt: skip
    private = terms.mechanism.unit is not None
    if terms.epsilon is not None and not private:
        raise PolicyError(
            expected("mechanism", terms.mechanism.name, "bound epsilon",
                     "name = 'dp-sgd', or beside [topics] words_epsilon, for the words alone")
        )  # fmt: skip
    if private and terms.delta * rows >= 1:
        raise PolicyError(
            expected("delta", terms.delta, "be below 1 / rows of the party", "delta = 1e-6")
        )


def _mechanism(own: Terms, asked: Mechanism) -> Mechanism:
    if asked.name in ("none", own.mechanism.name):
        strict = {
            "noise": _most(own.mechanism.noise, asked.noise),
            "epsilon_each": _least(own.mechanism.epsilon_each, asked.epsilon_each),
        }
        given = {key: value for key, value in strict.items() if value is not None}
        both = asked.parameters | own.mechanism.parameters | given
        return Mechanism(name=own.mechanism.name, **both)
    if own.mechanism.name != "none" or asked.name not in own.accepts:
        allowed = own.accepts if own.mechanism.name == "none" else (own.mechanism.name,)
        raise PolicyError(
            expected("privacy.mechanism", asked.name, f"be one of {', '.join(allowed)}",
                     f"accepts = ['{asked.name}'] in {FILE}")
        )  # fmt: skip
    return asked


def _least(one: Number | None, two: Number | None) -> Number | None:
    return min((v for v in (one, two) if v is not None), default=None)


def _most(one: Number | None, two: Number | None) -> Number | None:
    return max((v for v in (one, two) if v is not None), default=None)


def _line_of(text: str, location: list[str]) -> int | None:
    for name in reversed(location):
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(rf"\s*\[*\s*(?:[\w-]+\.)*{re.escape(name)}\b", line.split("#")[0]):
                return number
            if re.search(rf"[{{,]\s*{re.escape(name)}\s*=", line.split("#")[0]):
                return number
    return None

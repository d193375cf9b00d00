"""Files that are whole or absent: text, JSON, JSON lines and arrays."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def slug(key: str) -> str:
    """Return a file name for a method's label: ``knot/sum/size`` → ``knot-sum-size``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip("-")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an npz file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial.npz")
    np.savez_compressed(temporary, allow_pickle=False, **dict(arrays))
    temporary.replace(path)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an npy file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    temporary.replace(path)


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read from its first byte on, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def append_json(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line of JSON; a line torn by a kill is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dict(record), ensure_ascii=False).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file; a line torn by a kill is skipped."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def write_rows(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write equally long columns as JSON lines."""
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    lines = (json.dumps(dict(zip(names, r, strict=True)), ensure_ascii=False) for r in rows)
    write_text(path, "".join(f"{line}\n" for line in lines))


def count_rows(path: Path) -> int:
    """Return how many rows :func:`read_rows` would give, without reading what they hold."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def read_rows(path: Path) -> dict[str, list[Any]]:
    """Read JSON lines that all have the same keys into columns."""
    columns: dict[str, list[Any]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            for key, value in json.loads(line).items():
                columns.setdefault(key, []).append(value)
    return columns

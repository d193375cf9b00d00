"""The run folder: where one scenario with one seed keeps what it made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RunFolder:
    """Names of everything in a run folder."""

    root: Path

    @property
    def scenario(self) -> Path:
        """The effective scenario, overrides laid over."""
        return self.root / "scenario.toml"

    @property
    def public(self) -> Path:
        """Texts that every party may read: the transfer set and the test set."""
        return self.root / "public"

    @property
    def truth(self) -> Path:
        """Labels of the test set, known to the server alone."""
        return self.root / "truth.npz"

    @property
    def parties(self) -> Path:
        """One folder a party; only that party reads it (simulation)."""
        return self.root / "parties"

    @property
    def intake(self) -> Path:
        """Accepted answers for the transfer set."""
        return self.root / "intake"

    @property
    def evaluation(self) -> Path:
        """Accepted answers for the test set."""
        return self.root / "evaluation"

    @property
    def students(self) -> Path:
        """One folder a method."""
        return self.root / "students"

    @property
    def bounds(self) -> Path:
        """Predictions of the reference students."""
        return self.root / "bounds"

    @property
    def result(self) -> Path:
        """The figures of this seed."""
        return self.root / "result.json"

    @property
    def done(self) -> bool:
        """Whether the run is complete."""
        return (self.root / "DONE").is_file()

    def party(self, index: int) -> Path:
        """Return the folder of one simulated party."""
        return self.parties / f"{index:04d}"

    def student(self, key: str) -> Path:
        """Return the folder of one method's student."""
        return self.students / slug(key)

    def log(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one record to ``<name>.jsonl``."""
        append_json(self.root / f"{name}.jsonl", record)

    def records(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the records of ``<name>.jsonl``; none where there is no such file."""
        yield from read_json_lines(self.root / f"{name}.jsonl")


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

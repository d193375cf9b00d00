"""The run folder: where one scenario with one seed keeps what it made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkd.files import append_json, read_json_lines, slug


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
    def sealed(self) -> Path:
        """What the round of questions brought, once it is over."""
        return self.root / "round.json"

    @property
    def students(self) -> Path:
        """One folder a method."""
        return self.root / "students"

    @property
    def bounds(self) -> Path:
        """Predictions of the reference students."""
        return self.root / "bounds"

    @property
    def predictions(self) -> Path:
        """What every student and reference says of the test set."""
        return self.root / "predictions.npz"

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

    def topics_sealed(self, round_: int) -> Path:
        """What a round with topic models came to, once it is over."""
        return self.root / f"sealed-{round_}.json"

    def student(self, key: str) -> Path:
        """Return the folder of one method's student."""
        return self.students / slug(key)

    def log(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one record to ``<name>.jsonl``."""
        append_json(self.root / f"{name}.jsonl", record)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside the block as one stage of the run."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.log("events", {"event": "stage", "stage": name, "seconds": seconds})

    def warn(self, text: str) -> None:
        """Record something that the user should know; it is shown in the result."""
        self.log("events", {"event": "warning", "warning": text})

    def warnings(self) -> list[str]:
        """Return every warning once, in order."""
        events = (record for record in self.records("events") if record["event"] == "warning")
        return list(dict.fromkeys(record["warning"] for record in events))

    def records(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the records of ``<name>.jsonl``; none where there is no such file."""
        yield from read_json_lines(self.root / f"{name}.jsonl")

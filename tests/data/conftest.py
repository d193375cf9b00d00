from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedkd.scenario import Scenario
from fedkd.scenario_file import parse_scenario

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as a csv file under the test's folder: ``write("a/train.csv", rows)``."""

    def writer(
        name: str, rows: Sequence[Sequence[object]], header: Sequence[str] = ("text", "label")
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return writer


@pytest.fixture
def scenario() -> Callable[..., Scenario]:
    """Make a scenario of plain tables: ``scenario(data, parties, labels)``."""

    def maker(
        data: dict[str, Any], parties: dict[str, Any], labels: dict[str, Any] | None = None
    ) -> Scenario:
        return parse_scenario(
            {
                "name": "test",
                "data": data,
                "labels": labels or {},
                "parties": parties,
                "method": [{"name": "knot"}],
            }
        )

    return maker

"""A scenario small enough to run many times in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedkd.scenario import Scenario
from fedkd.scenario_file import dump_scenario, parse_scenario


def small(out: Path, **changes: Any) -> Scenario:
    """Return four light parties on the generated corpus; ``changes`` replace whole tables."""
    values: dict[str, Any] = {
        "name": "small",
        "seeds": [0],
        "data": {
            "source": "generated:moods",
            "domain": "domain",
            "transfer": {"from": "train", "rows": 150},
            "rows": 800,
        },
        "labels": {"geometry": "coordinates"},
        "parties": {"count": 4, "partition": {"by": "domain"}},
        "teacher": {"model": "bow", "epochs": 4},
        "student": {"model": "bow", "epochs": 4},
        "method": [{"name": "knot"}, {"name": "cross-entropy"}],
        "run": {"out": str(out), "block_rows": 64},
    }
    return parse_scenario(values | changes)


def write_scenario(file: Path, scenario: Scenario) -> Path:
    """Write a scenario as the TOML file that a user would have written."""
    file.write_text(dump_scenario(scenario), encoding="utf-8")
    return file

"""A federation of topic models small enough to run many times in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedkd.scenario import Scenario
from fedkd.scenario_file import parse_scenario


def small_topics(out: Path, **changes: Any) -> Scenario:
    """Return three light parties on the generated corpus; ``changes`` replace whole tables."""
    topics = {
        "encoder": "lsa:16",
        "teacher": {"topics": 5, "hidden": [12], "epochs": 2},
        "student": {"topics": 6, "hidden": [12], "epochs": 2},
        "upload": {"keep": 16, "samples": 2},
    }
    values: dict[str, Any] = {
        "name": "small-topics",
        "seeds": [0],
        "data": {"source": "generated:topics", "transfer": {"rows": 200}},
        "parties": {"count": 3, "partition": {"by": "dirichlet", "alpha": 0.5}},
        "topics": topics | changes.pop("topics", {}),
        "method": [{"name": "topics"}],
        "run": {"out": str(out), "block_rows": 150, "backoff": 0.0},
    }
    return parse_scenario(values | changes)

"""A scenario small enough to run many times in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.app import Message

from fedkd.run.grid import Tap
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


# A shell's background jobs inherit deafness to interrupts, and so would the command they test.
COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from fedkd.cli import main; main()"
)


class PowerCutError(BaseException):
    """The server's process is gone."""


class Recorder:
    """A tap that keeps every message as (direction, type, party's node, bytes that crossed)."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, int, bytes]] = []

    def __call__(self, direction: str, message: Message, data: bytes) -> None:
        node = message.metadata
        party = node.dst_node_id if direction == "down" else node.src_node_id
        self.messages.append((direction, node.message_type, party, data))


def power_cut(after: int) -> Tap:
    """Return a tap that ends the server after so many messages."""
    left = [after]

    def tap(direction: str, sent: Message, data: bytes) -> None:
        if left[0] == 0:
            raise PowerCutError
        left[0] -= 1

    return tap


def write_scenario(file: Path, scenario: Scenario) -> Path:
    """Write a scenario as the TOML file that a user would have written."""
    file.write_text(dump_scenario(scenario), encoding="utf-8")
    return file

"""A small deployment of topic models for the tests of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedkd.deploy.init import init_deployment
from fedkd.deploy.layout import agreed_scenario
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from tests.system.small import write_scenario
from tests.topics.small_run import small_topics

NAMES = ("party-0", "party-1", "party-2")
UNLIKE = {"topics": 5, "hidden": [12], "epochs": 2,
          "override": [{"parties": ["party-1"], "topics": 4, "inputs": "bag"}]}  # fmt: skip


def scenario_for(out: Path, **changes: Any) -> Scenario:
    topics = {"teacher": UNLIKE} | changes.pop("topics", {})
    return small_topics(out, topics=topics, **changes)


def deployment_of(base: Path, scenario: Scenario, private: RunFolder | None) -> Path:
    """A deployment whose parties own the documents that a simulation has dealt to them."""
    folder = base / "made"
    init_deployment(folder, NAMES, "localhost", 8443, write_scenario(base / "small.toml", scenario))
    for index, name in enumerate(NAMES):
        if private is not None:
            set_data(folder / "parties" / name, str(private.party(index) / "private.jsonl"))
    return folder


def set_data(party: Path, path: str, more: str = "") -> None:
    lines = (party / "party.toml").read_text().splitlines()
    new = [f'path = "{path}"\n{more}' if one.startswith("path =") else one for one in lines]
    (party / "party.toml").write_text("\n".join(new))


def home(folder: Path) -> Path:
    return folder / "state" / agreed_scenario(folder).config_hash / "0"

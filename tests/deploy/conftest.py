"""One deployment for all tests of this room that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedkd.deploy.init import init_deployment
from fedkd.run.folder import RunFolder
from fedkd.run.prepare import prepare_run
from tests.deploy.topic_deployment import deployment_of, scenario_for
from tests.system.small import small, write_scenario

PARTIES = ("food", "music+sport", "travel", "work")


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    return write_scenario(tmp_path / "small.toml", small(tmp_path / "runs"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment that nobody has started."""
    folder = tmp_path_factory.mktemp("deployment")
    scenario = write_scenario(folder / "small.toml", small(folder / "runs"))
    init_deployment(folder / "made", PARTIES, "fedkd.example.org", 8443, scenario)
    return folder / "made"


@pytest.fixture(scope="module")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return prepare_run(scenario_for(tmp_path_factory.mktemp("simulated")), 0)


@pytest.fixture
def with_topics(tmp_path: Path, dealt: RunFolder) -> Path:
    return deployment_of(tmp_path, scenario_for(tmp_path / "runs"), dealt)

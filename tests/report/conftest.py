"""Folders of invented runs, written once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_run import write_fake_run


@pytest.fixture(scope="session")
def five_seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration's folder with five seeds; tests only read it."""
    return write_fake_run(tmp_path_factory.mktemp("scenario") / "0123456789ab")

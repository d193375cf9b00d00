"""Where the tests find the real data, and what several of them share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
if SHARED.is_dir():
    os.environ.setdefault("FEDKD_DATA", str(SHARED))
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with real machines: those tests mostly wait, and the others fill the time."""
    items.sort(key=lambda item: "test_remote" not in item.nodeid)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = Path(os.environ.get("FEDKD_DATA", ""))
    if not os.environ.get("FEDKD_DATA") or not folder.is_dir():
        pytest.skip("FEDKD_DATA names no folder with the real data sets")
    return folder

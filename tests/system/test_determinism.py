"""The same scenario and seed give the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fedkd.files import read_json
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from tests.system.small import small


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> RunFolder:
    return run_scenario(small(tmp_path_factory.mktemp("first"))).seeds[0]


def test_twice_gives_the_same_intake_and_student(first, tmp_path):
    second = run_scenario(small(tmp_path)).seeds[0]
    assert files_below(first.intake) == files_below(second.intake)
    assert files_below(first.students) == files_below(second.students)
    one, two = read_json(first.result), read_json(second.result)
    assert one["hashes"] == two["hashes"]
    assert one["methods"] == two["methods"]
    assert one["references"] == two["references"]
    assert one["bytes"] == two["bytes"]


def test_party_order_changes_nothing(tmp_path):
    names = ["food", "music", "sport", "travel"]
    hashes = []
    for order in (names, names[::-1], names[2:] + names[:2]):
        override = {"parties": [names[1]], "hidden": 8}
        scenario = small(
            tmp_path / "-".join(order),
            parties={"count": 4, "partition": {"by": "domain"}, "names": order},
            teacher={"model": "bow", "epochs": 4, "override": [override]},
        )
        hashes.append(read_json(run_scenario(scenario).seeds[0].result)["hashes"])
    assert hashes[0] == hashes[1] == hashes[2]


def test_another_seed_gives_another_student(first, tmp_path):
    other = run_scenario(small(tmp_path, seeds=[1])).seeds[0]
    assert read_json(first.result)["hashes"] != read_json(other.result)["hashes"]


@pytest.mark.parametrize("lost", ["students/cross-entropy", "intake", "evaluation", "bounds"])
def test_resumed_run_equals_the_uninterrupted_one(first, tmp_path, lost):
    scenario = small(tmp_path)
    folder = RunFolder(scenario.folder(0))
    shutil.copytree(first.root, folder.root, symlinks=True)
    for name in ("DONE", "result.json"):
        (folder.root / name).unlink()
    shutil.rmtree(folder.root / lost)
    run_scenario(scenario)
    one, two = read_json(first.result), read_json(folder.result)
    assert one["hashes"] == two["hashes"]
    assert one["methods"] == two["methods"]
    assert one["references"] == two["references"]


def test_complete_run_is_not_run_again(first):
    before = first.result.stat().st_mtime_ns
    notes: list[str] = []
    run_scenario(small(first.root.parents[2]), note=notes.append)
    assert first.result.stat().st_mtime_ns == before
    assert notes == ["seed 0: complete already"]

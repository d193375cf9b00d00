"""A run that dies at any moment goes on with the same command, and ends in the same bits."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedkd.files import read_json
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from tests.system.small import PowerCutError, power_cut, small


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    return run_scenario(small(tmp_path_factory.mktemp("whole"))).seeds[0]


def same(one: RunFolder, two: RunFolder) -> None:
    first, second = read_json(one.result), read_json(two.result)
    for key in ("hashes", "methods", "references"):
        assert first[key] == second[key]


@pytest.mark.parametrize("message", [0, 5, 12, 17, 25, 60, 90])
def test_server_dies_between_two_messages(message, whole, tmp_path):
    scenario = small(tmp_path)
    with pytest.raises(PowerCutError):
        run_scenario(scenario, tap=power_cut(message))
    assert not RunFolder(scenario.folder(0)).done
    same(whole, run_scenario(scenario).seeds[0])


@pytest.mark.parametrize("stage", ["write_result", "point_to_main_student"])
def test_server_dies_after_intake(stage, whole, tmp_path, monkeypatch):
    scenario = small(tmp_path)

    def die(*arguments: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(f"server.app.{stage}", die)
        with pytest.raises(PowerCutError):
            run_scenario(scenario)
    folder = RunFolder(scenario.folder(0))
    before = (folder.root / "wire.jsonl").read_text().count("query.answer")
    same(whole, run_scenario(scenario).seeds[0])
    after = (folder.root / "wire.jsonl").read_text().count("query.answer")
    assert before == after > 0, "what was received is not asked for again"


def test_killed_process_is_resumed(whole, tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.system.small import small\n"
        "from fedkd.run.engine import run_scenario\n"
        "run_scenario(small(Path(sys.argv[1])))"
    )
    scenario = small(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2]
    )
    wire = scenario.folder(0) / "wire.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if wire.is_file() and wire.read_text().count("query.answer") > 6:
            break
        time.sleep(0.005)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    same(whole, run_scenario(scenario).seeds[0])


def test_full_disk_is_told_and_nothing_is_lost(whole, tmp_path, monkeypatch):
    scenario = small(tmp_path)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("server.received.append_json", full)
        with pytest.raises(OSError, match="No space left"):
            run_scenario(scenario)
    same(whole, run_scenario(scenario).seeds[0])


def test_delivered_transfer_set_gives_the_same_student(whole, tmp_path):
    data = {
        "source": "generated:moods",
        "domain": "domain",
        "transfer": {"from": "train", "rows": 150, "delivery": "server"},
        "rows": 800,
    }
    folder = run_scenario(small(tmp_path, data=data)).seeds[0]
    same(whole, folder)
    assert (folder.party(2) / "public" / "transfer.jsonl").is_file()
    sent = [r for r in folder.records("wire") if r.get("kind") == "query.receive"]
    assert sent

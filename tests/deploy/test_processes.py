"""A background process is started once, told about, and ended with everything it has started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fedkd.deploy.processes import Daemon
from fedkd.errors import DeployError

FAMILY = """\
setsid sleep 300 &
echo $! > away
sleep 300 &
echo $! > child
echo ready
wait
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "run.sh"
        file.write_text(f'cd "{tmp_path}"\n{text}')
        return file

    return write


def test_everything_ends_also_what_left_the_group(
    tmp_path: Path, script: Callable[[str], Path]
) -> None:
    daemon = Daemon(tmp_path, "family")
    daemon.start(script(FAMILY), lambda: daemon.says("ready"), 30)
    process = daemon.process()
    assert process is not None
    pids = [process.pid, *(int((tmp_path / name).read_text()) for name in ("away", "child"))]
    assert all(psutil.pid_exists(pid) for pid in pids)
    assert daemon.stop()
    assert daemon.process() is None
    for pid in pids:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not daemon.stop()


def test_end_before_ready_tells_the_last_words(
    tmp_path: Path, script: Callable[[str], Path]
) -> None:
    daemon = Daemon(tmp_path, "short")
    with pytest.raises(DeployError, match=r"code 7(?s:.)*my last words"):
        daemon.start(script("echo my last words; exit 7\n"), lambda: False, 30)
    assert daemon.process() is None and not daemon.pid_file.exists()


def test_what_a_process_left_behind_ends_too(tmp_path: Path, script: Callable[[str], Path]) -> None:
    daemon = Daemon(tmp_path, "gone")
    left = f"tail -f '{tmp_path}/run.sh' > /dev/null & echo $! > child; echo ready; sleep 1\n"
    daemon.start(script(left), lambda: daemon.says("ready"), 30)
    process = daemon.process()
    assert process is not None
    process.kill()
    process.wait(30)
    child = psutil.Process(int((tmp_path / "child").read_text()))
    assert child.is_running()
    assert not daemon.stop()
    assert not child.is_running()


def test_never_ready_leaves_nothing(tmp_path: Path, script: Callable[[str], Path]) -> None:
    daemon = Daemon(tmp_path, "slow")
    with pytest.raises(DeployError, match="not ready"):
        daemon.start(script("echo $$ > pid; sleep 300\n"), lambda: False, 2)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_stale_pid_file_is_not_believed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "old")
    daemon.pid_file.parent.mkdir()
    for text in ("", "{}", '{"pid": 1, "created": 1.0}', '{"pid": 999999999, "created": 1.0}'):
        daemon.pid_file.write_text(text)
        assert daemon.process() is None
    assert not daemon.stop()

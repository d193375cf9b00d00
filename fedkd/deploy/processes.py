"""A process that outlives the command which started it, and how to end all of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from fedkd.errors import DeployError
from fedkd.files import read_json, write_json

STOP_SECONDS = 15.0
_POLL = 0.2
_TAIL = 12


@dataclass(frozen=True)
class Daemon:
    """A background process of a folder: its script, its log and the file that remembers it."""

    folder: Path
    name: str

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Which process it is; with its start time, since numbers are used again."""
        return self.folder / "state" / f"{self.name}.pid"

    def process(self) -> psutil.Process | None:
        """Return the running process, or None."""
        try:
            known = read_json(self.pid_file)
            process = psutil.Process(known["pid"])
            same = process.create_time() == known["created"]
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, psutil.Error):
            return None

    def start(self, script: Path, ready: Callable[[], bool], seconds: float) -> None:
        """Start ``script``, of a folder that is checked already, and wait until ``ready``.

        Raises :class:`DeployError` with the last lines of the log where the process ends first or
        is not ready after ``seconds``; nothing of it is left then.
        """
        self.log.parent.mkdir(exist_ok=True)
        self.pid_file.parent.mkdir(exist_ok=True)
        self.log.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                ["bash", str(script.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=script_environment() | {"FEDKD_CHECKED": "1"},
                start_new_session=True,
            )
        created = psutil.Process(child.pid).create_time()
        write_json(self.pid_file, {"pid": child.pid, "created": created})
        end = time.monotonic() + seconds
        try:
            while not ready():
                if child.poll() is not None:
                    raise DeployError(
                        f"{self.name} ended with code {child.returncode}.{self._why()}"
                    )
                if time.monotonic() > end:
                    raise DeployError(f"{self.name} was not ready in {seconds:.0f} s.{self._why()}")
                time.sleep(_POLL)
        except BaseException:
            self.stop()
            child.wait()
            raise

    def stop(self) -> bool:
        """End the process and everything that it started; return whether it was running."""
        process = self.process()
        if process is not None:
            end_tree(process)
        for one in self._left_behind():
            end_tree(one)
        self.pid_file.unlink(missing_ok=True)
        return process is not None

    def _left_behind(self) -> list[psutil.Process]:
        """Return what a process that ended by itself has left: of its group and of this folder."""
        try:
            group = int(read_json(self.pid_file)["pid"])
        except (OSError, ValueError, KeyError):
            return []
        found = []
        for process in psutil.process_iter():
            try:
                ours = any(str(self.folder.resolve()) in word for word in process.cmdline())
                if ours and os.getpgid(process.pid) == group:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def tail(self, lines: int = _TAIL) -> list[str]:
        """Return the last lines of the log."""
        if not self.log.is_file():
            return []
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]

    def says(self, words: str) -> bool:
        """Whether the log holds these words."""
        return self.log.is_file() and words in self.log.read_text("utf-8", errors="replace")

    def _why(self) -> str:
        return "".join(f"\n  {line}" for line in [*self.tail(), f"The whole log: {self.log}"])


def end_tree(process: psutil.Process) -> None:
    """End a process, then what it has started and left; children in sessions of their own too."""
    family = {process, *_offspring(process)}
    _quietly(process.terminate)
    psutil.wait_procs([process], timeout=STOP_SECONDS)
    # What was left may have started something since.
    family |= {child for one in family for child in _offspring(one)}
    for one in family - {process}:
        _quietly(one.terminate)
    _, stubborn = psutil.wait_procs(list(family), timeout=STOP_SECONDS)
    for one in stubborn:
        _quietly(one.kill)
    psutil.wait_procs(stubborn, timeout=STOP_SECONDS)


def _offspring(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def script_environment() -> dict[str, str]:
    """Return this environment with the programs of this Python first on the path."""
    programs = str(Path(sys.executable).parent)
    return os.environ | {"PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])}


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return

"""A deployment on loopback for tests: a server and four nodes with TLS and node keys."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from fedkd.deploy import lifecycle
from fedkd.deploy.init import init_deployment
from fedkd.deploy.processes import end_tree
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from fedkd.scenario_file import load_scenario
from tests.system.small import write_scenario

PARTIES = ("food", "music+sport", "travel", "work")
UP_SECONDS = 240


@dataclass(frozen=True)
class Deployment:
    """Folders of a deployment in which everything runs."""

    root: Path
    scenario: Scenario
    inline: RunFolder
    address: str
    names: tuple[str, ...] = PARTIES

    @property
    def server(self) -> Path:
        return self.root / "server"

    @property
    def ca(self) -> Path:
        return self.server / "ca.crt"

    def party(self, name: str) -> Path:
        return self.root / "parties" / name

    @property
    def folders(self) -> list[Path]:
        return [*(self.party(name) for name in self.names), self.server]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in made]


def bring_up(*folders: Path) -> None:
    """`fedkd deploy up` for several folders at once, each in a process of its own."""
    command = [sys.executable, "-c", "from fedkd.cli import main; main()", "deploy", "up"]
    started = [
        subprocess.Popen(
            [*command, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for folder in folders
    ]
    told = [one.communicate(timeout=UP_SECONDS)[0] for one in started]
    assert [one.returncode for one in started] == [0] * len(folders), "\n".join(told)


def processes_of(root: Path) -> list[psutil.Process]:
    """Processes that name a file of the deployment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(str(root) in word for word in words):
            found.append(process)
    return found


@contextmanager
def deployed(
    base: Path,
    scenario: Scenario,
    private: RunFolder | None = None,
    names: tuple[str, ...] = PARTIES,
) -> Iterator[Deployment]:
    """Deploy a scenario with the private rows of an inline run, made here unless it is given."""
    inline = private or run_scenario(scenario).seeds[0]
    server_port, *node_ports = free_ports(1 + len(names))
    root, file = base / "made", write_scenario(base / "small.toml", scenario)
    init_deployment(root, names, "localhost", server_port, file)
    for index, (name, port) in enumerate(zip(names, node_ports, strict=True)):
        own = inline.party(index)
        settings = root / "parties" / name / "party.toml"
        text = settings.read_text().replace('path = ""', f'path = "{own / "private.jsonl"}"')
        text = text.replace(f"port = {9094 + index} ", f"port = {port} ")
        text = text.replace('# test = "test.csv"', f'test = "{own / "test.jsonl"}"')
        settings.write_text(text)
    here = Deployment(root, load_scenario(file), inline, f"localhost:{server_port}", names)
    try:
        bring_up(here.server)
        bring_up(*(here.party(name) for name in names))
        yield here
    finally:
        for folder in here.folders:
            lifecycle.down(folder, lambda line: None)
        for process in processes_of(root):
            end_tree(process)

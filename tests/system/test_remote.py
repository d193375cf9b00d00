"""A server and four nodes over TLS, with node keys, on loopback: the bytes of the inline engine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from fedkd.cli import app as command_line
from fedkd.deploy import lifecycle
from fedkd.deploy.certificates import make_node_key
from fedkd.deploy.control import control_of
from fedkd.deploy.init import init_deployment
from fedkd.deploy.processes import end_tree, script_environment
from fedkd.errors import DeployError
from fedkd.files import read_json, read_json_lines
from fedkd.privacy.ledger import facts
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.remote import run_remote
from fedkd.scenario import Scenario
from fedkd.scenario_file import load_scenario
from tests.system.small import small, write_scenario

PARTIES = ("food", "music+sport", "travel", "work")
UP_SECONDS = 240
REFUSED_SECONDS = 25

assert command_line.registered_groups, "fedkd deploy is a part of the command"


@dataclass(frozen=True)
class Deployment:
    """Folders of a deployment in which everything runs."""

    root: Path
    scenario: Scenario
    inline: RunFolder
    address: str

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
        return [*(self.party(name) for name in PARTIES), self.server]


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


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    base = tmp_path_factory.mktemp("remote")
    scenario = small(base / "runs", run={"out": str(base / "runs"), "block_rows": 4096})
    inline = run_scenario(scenario).seeds[0]
    server_port, *node_ports = free_ports(1 + len(PARTIES))
    root, file = base / "made", write_scenario(base / "small.toml", scenario)
    init_deployment(root, PARTIES, "localhost", server_port, file)
    for index, (name, port) in enumerate(zip(PARTIES, node_ports, strict=True)):
        own = inline.party(index)
        settings = root / "parties" / name / "party.toml"
        text = settings.read_text().replace('path = ""', f'path = "{own / "private.jsonl"}"')
        text = text.replace(f"port = {9094 + index} ", f"port = {port} ")
        text = text.replace('# test = "test.csv"', f'test = "{own / "test.jsonl"}"')
        settings.write_text(text)
    here = Deployment(root, load_scenario(file), inline, f"localhost:{server_port}")
    try:
        bring_up(here.server)
        bring_up(*(here.party(name) for name in PARTIES))
        yield here
    finally:
        for folder in here.folders:
            lifecycle.down(folder, lambda line: None)
        for process in processes_of(root):
            end_tree(process)


@pytest.fixture(scope="module")
def remote(deployment: Deployment) -> RunFolder:
    (done,) = run_remote(deployment.scenario, deployment.address, deployment.ca)
    return RunFolder(deployment.server / Path(done.folder))


def test_same_intake_bytes_and_same_students_as_inline(
    deployment: Deployment, remote: RunFolder
) -> None:
    inline = deployment.inline
    assert remote.done
    assert read_json(remote.result)["hashes"] == read_json(inline.result)["hashes"]
    answers = sorted(p.relative_to(inline.intake) for p in inline.intake.glob("*/*.npy"))
    assert len(answers) == len(PARTIES)
    for answer in answers:
        assert (remote.intake / answer).read_bytes() == (inline.intake / answer).read_bytes()
    weights = list(inline.students.glob("*/*.safetensors"))
    assert weights
    for file in weights:
        copy = remote.students / file.relative_to(inline.students)
        assert copy.read_bytes() == file.read_bytes()


def test_ledgers_agree_and_private_rows_stay(deployment: Deployment, remote: RunFolder) -> None:
    own = []
    for name in PARTIES:
        (ledger,) = deployment.party(name).glob("state/*/0/ledger.jsonl")
        own += list(map(facts, read_json_lines(ledger)))

    def request(entry: dict[str, str]) -> str:
        return entry["request"]

    server = map(facts, remote.records("ledger"))
    assert sorted(server, key=request) == sorted(own, key=request)
    assert not list(deployment.server.rglob("private.jsonl"))
    assert not (remote.root / "parties").exists()


def test_configuration_that_nobody_agreed_to_fails_in_words(
    deployment: Deployment, remote: RunFolder
) -> None:
    other = deployment.scenario.model_copy(update={"name": "other"})
    notes: list[str] = []
    with pytest.raises(DeployError, match="The server has not laid out runs/other/"):
        run_remote(other, deployment.address, deployment.ca, note=notes.append)
    assert not [note for note in notes if "Traceback" in note]


def strangers(deployment: Deployment, *arguments: tuple[str, ...]) -> list[str]:
    """Start bare SuperNodes that must not get in; return what each says until it gives up.

    Flower tries for ever where there is no connection, so they are given a while and ended then.
    """
    environment = script_environment() | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(deployment.root / "stranger"),
    }
    command = ["flower-supernode", "--superlink", deployment.address]
    started = [
        subprocess.Popen(
            [*command, "--port", str(port), *more],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for port, more in zip(free_ports(len(arguments)), arguments, strict=True)
    ]
    alive = [psutil.Process(one.pid) for one in started]
    _, alive = psutil.wait_procs(alive, timeout=REFUSED_SECONDS)
    for process in alive:
        end_tree(process)
    return [one.communicate(timeout=REFUSED_SECONDS)[0] for one in started]


def nodes_online(deployment: Deployment) -> int:
    with control_of(deployment.address, deployment.ca) as control:
        nodes = control.nodes()
    return sum(node.status == "online" for node in nodes)


def test_strangers_are_refused(deployment: Deployment, tmp_path: Path) -> None:
    """A node without a certificate, one that trusts another authority, an unknown key, no key."""
    make_node_key(tmp_path / "unknown.key", "unknown")
    other = tmp_path / "other"
    init_deployment(other, PARTIES, "localhost", 1, deployment.server / "scenario.toml")
    wrong_ca = str(other / "authority" / "ca.crt")
    trust = ("--root-certificates", str(deployment.ca))
    key = "--auth-supernode-private-key"
    told = strangers(
        deployment,
        ("--insecure",),
        ("--root-certificates", wrong_ca, key, str(deployment.party("food") / "node.key")),
        (*trust, key, str(tmp_path / "unknown.key")),
        trust,
    )
    assert all("Starting Flower SuperNode" in words for words in told)
    assert not any("SuperNode ID" in words for words in told)
    assert "Failed to activate SuperNode" in told[2]
    assert nodes_online(deployment) == len(PARTIES)


def test_wrong_authority_and_unknown_key_are_told(deployment: Deployment, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    shutil.copytree(deployment.party("food"), stranger, ignore=shutil.ignore_patterns("state"))
    (port,) = free_ports(1)
    text = (stranger / "party.toml").read_text()
    lines = [f"port = {port}" if one.startswith("port =") else one for one in text.splitlines()]
    (stranger / "party.toml").write_text("\n".join(lines))
    (stranger / "node.key").unlink()
    make_node_key(stranger / "node.key", "stranger")
    with pytest.raises(DeployError, match="Expected the server to accept node 'food'"):
        lifecycle.up(stranger, lambda line: None)
    other = tmp_path / "other"
    init_deployment(other, PARTIES, "localhost", 1, deployment.server / "scenario.toml")
    shutil.copyfile(other / "authority" / "ca.crt", stranger / "ca.crt")
    with pytest.raises(DeployError, match="signed by this authority"):
        lifecycle.up(stranger, lambda line: None)
    with pytest.raises(DeployError, match="signed by this authority"):
        run_remote(deployment.scenario, deployment.address, stranger / "ca.crt")
    assert not processes_of(stranger)


def test_down_leaves_no_process_and_no_port(deployment: Deployment) -> None:
    """Comes last: it ends the deployment."""
    notes: list[str] = []
    assert len(processes_of(deployment.root)) >= 1 + len(PARTIES)
    for folder in deployment.folders:
        lifecycle.down(folder, notes.append)
    assert sum("stopped" in note for note in notes) == 1 + len(PARTIES)
    assert not processes_of(deployment.root)
    port = int(deployment.address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert not lifecycle.status(deployment.server, notes.append)
    assert os.path.lexists(deployment.server / "state" / "superlink.db")

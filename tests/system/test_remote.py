"""A server and four nodes over TLS, with node keys, on loopback: the bytes of the inline engine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
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
from fedkd.run.folder import RunFolder
from fedkd.run.remote import run_remote
from tests.system.deployment import PARTIES, Deployment, deployed, free_ports, processes_of
from tests.system.small import COMMAND, small, write_scenario

REFUSED_SECONDS = 25

assert command_line.registered_groups, "fedkd deploy is a part of the command"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    base = tmp_path_factory.mktemp("remote")
    scenario = small(base / "runs", run={"out": str(base / "runs"), "block_rows": 4096})
    with deployed(base, scenario) as here:
        yield here


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


def test_interrupted_command_stops_its_run(deployment: Deployment, remote: RunFolder) -> None:
    scenario = deployment.scenario.model_copy(update={"seeds": (0,)})
    file = write_scenario(deployment.root / "again.toml", scenario)
    for name in ("DONE", "round.json"):
        (remote.root / name).rename(remote.root / f"was-{name}")
    command = [sys.executable, "-c", COMMAND, "run", str(file)]
    command += ["--backend", "remote", "--server", deployment.address, "--ca", str(deployment.ca)]
    began = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    assert began.stdout is not None
    run = next(int(line.split()[3]) for line in began.stdout if line.startswith("seed 0: run "))
    with control_of(deployment.address, deployment.ca) as control:
        while control.status(run) in ("pending", "starting"):
            pass
        started = psutil.Process(began.pid).children(recursive=True)
        began.send_signal(signal.SIGINT)
        told = began.communicate(timeout=60)[0]
        assert began.returncode not in (0, None)
        assert "Traceback" not in told
        assert control.status(run) == "finished:stopped"
    (remote.root / "was-DONE").rename(remote.root / "DONE")
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_revoked_key_is_refused(deployment: Deployment) -> None:
    notes: list[str] = []
    lifecycle.down(deployment.party("food"), notes.append)
    (deployment.server / "nodes" / "food.pub").unlink()
    lifecycle.up(deployment.server, notes.append)
    assert "food: key removed" in notes
    with pytest.raises(DeployError, match="Expected the server to accept node 'food'"):
        lifecycle.up(deployment.party("food"), notes.append)
    assert nodes_online(deployment) == len(PARTIES) - 1
    assert not processes_of(deployment.party("food"))


def test_down_leaves_no_process_and_no_port(deployment: Deployment) -> None:
    """Comes last: it ends the deployment."""
    notes: list[str] = []
    assert len(processes_of(deployment.root)) >= len(PARTIES)
    for folder in deployment.folders:
        lifecycle.down(folder, notes.append)
    assert sum("stopped" in note for note in notes) == len(PARTIES), "one party is down already"
    assert not processes_of(deployment.root)
    port = int(deployment.address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert not lifecycle.status(deployment.server, notes.append)
    assert os.path.lexists(deployment.server / "state" / "superlink.db")

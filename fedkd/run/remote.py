"""The remote engine: submits the app to a SuperLink, follows its log and judges by its status."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import psutil
import tomli_w

from fedkd.deploy.control import Control, control_of
from fedkd.deploy.layout import with_out
from fedkd.deploy.probe import check_server
from fedkd.deploy.processes import end_tree
from fedkd.deploy.settings import split_address
from fedkd.errors import DeployError, QuorumError, expected
from fedkd.run.checks import check_deployable, check_methods
from fedkd.scenario import Scenario

PACKAGES = ("fedkd", "clients", "server")
COMPLETED = "finished:completed"
_POLL_SECONDS = 3.0
_LOG_SECONDS = 10.0
# A SuperLink starts a run at once; where its executor has died it never does, and does not say so.
_PENDING_SECONDS = 180.0
_REASON = re.compile(r"^(?:\S*\.)?([A-Z]\w*(?:Error|Exception)): (.*)$")


@dataclass(frozen=True)
class Submitted:
    """A run that was completed. ``folder`` lies below the server operator's folder."""

    seed: int
    run: int
    folder: PurePosixPath


def run_remote(
    scenario: Scenario, server: str, ca: Path, *, note: Callable[[str], None] = lambda line: None
) -> tuple[Submitted, ...]:
    """Run every seed on the SuperLink at ``HOST:PORT`` and return where the results lie there.

    The server must be reached over TLS with a certificate of the authority in ``ca``, and a quorum
    of nodes must be online. Raises :class:`DeployError` where a run does not complete,
    :class:`QuorumError` where too few nodes are there; a stopped command stops its run.
    """
    check_methods(scenario)
    check_deployable(scenario)
    check_server(server, ca)
    done = []
    with tempfile.TemporaryDirectory(prefix="fedkd-") as temporary, control_of(server, ca) as flwr:
        app = assemble_app(Path(temporary) / "fedkd-app")
        require_nodes(flwr, scenario.parties.quorum or scenario.parties.count)
        for seed in scenario.seeds:
            folder = with_out(scenario).folder(seed).as_posix()
            config = Path(temporary) / "run.toml"
            config.write_text(tomli_w.dumps({"seed": seed, "run-folder": folder}), "utf-8")
            run = flwr.submit(app, config)
            note(f"seed {seed}: run {run} on {server}")
            _follow(flwr, run, folder, note)
            done.append(Submitted(seed, run, PurePosixPath("work", folder)))
    return tuple(done)


def whereabouts(submitted: tuple[Submitted, ...], server: str) -> list[str]:
    """Return the lines that say where the results are and how to copy them."""
    host, _ = split_address(server)
    base = submitted[0].folder.parent
    lines = [f"On {host}, in the server's folder (that of superlink.sh):"]
    for one in submitted:
        lines.append(f"  seed {one.seed}   {one.folder}/   student {one.folder}/student/")
    return [
        *lines,
        f"Table and page   fedkd report {base}   (there)",
        f"Copy             scp -r USER@{host}:FOLDER/{base} .",
        "`fedkd deploy status FOLDER` there prints the whole paths.",
    ]


def require_nodes(control: Control, quorum: int) -> None:
    """Raise :class:`QuorumError` unless a quorum of nodes is online."""
    nodes = control.nodes()
    online = sum(node.status == "online" for node in nodes)
    if online < quorum:
        raise QuorumError(
            expected(
                "nodes online",
                online,
                f"be at least quorum={quorum} ({len(nodes)} are registered)",
                "fedkd deploy up at the missing parties, or a smaller parties.quorum",
            )
        )


def assemble_app(folder: Path) -> Path:
    """Copy this installation's code into a Flower app and return its folder.

    The app names no dependencies: what the code needs is installed on every machine already.
    """
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise DeployError(expected("package", name, "be installed", "installing fedkd again"))
        ignored = shutil.ignore_patterns("__pycache__", "templates", "*.pyc")
        shutil.copytree(found.submodule_search_locations[0], folder / name, ignore=ignored)
    app = {
        "publisher": "fedkd",
        "fab-include": [f"{name}/**/*.py" for name in PACKAGES] + ["fedkd/**/*.toml"],
        "components": {"serverapp": "server.app:app", "clientapp": "clients.app:app"},
        "config": {"seed": 0, "scenario": "", "overrides": "", "run-folder": ""},
    }
    project = {"name": "fedkd", "version": metadata.version("fedkd"), "dependencies": []}
    project |= {"license": "Apache-2.0", "description": "fedkd"}
    values = {"project": project, "tool": {"flwr": {"app": app}}}
    (folder / "pyproject.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    return folder


def _follow(control: Control, run: int, folder: str, note: Callable[[str], None]) -> None:
    lines: list[str] = []
    log = control.log(run)
    reader = threading.Thread(target=_read, args=(log, lines, note), daemon=True)
    reader.start()
    last_start = time.monotonic() + _PENDING_SECONDS
    try:
        while not (status := control.status(run)).startswith("finished"):
            if status == "pending" and time.monotonic() > last_start:
                raise DeployError(
                    expected("run", run, "start", "fedkd deploy down and up at the server")
                )
            time.sleep(_POLL_SECONDS)
        reader.join(_LOG_SECONDS)
    except BaseException:
        control.stop(run)
        raise
    finally:
        if log.poll() is None:
            end_tree(psutil.Process(log.pid))
        log.wait()
    if status != COMPLETED:
        raise DeployError(
            f"Expected run {run} to complete; it ended as {status}. {_reason(lines, folder)}"
        )


def _read(log: subprocess.Popen[str], lines: list[str], note: Callable[[str], None]) -> None:
    """Pass the log on, tracebacks left out: the line that ends one says enough."""
    inside = False
    for line in log.stdout or ():
        lines.append(line.rstrip())
        starts = line.startswith("Traceback (most recent call last)")
        inside = starts or (inside and line[:1].isspace())
        if lines[-1] and not inside:
            note(f"  {lines[-1]}")


def _reason(lines: list[str], folder: str) -> str:
    """Return why the ServerApp ended, as its log tells it, and what to do."""
    found = [match for match in map(_REASON.match, lines) if match]
    if not found:
        return "Its log tells no reason. Try the log of superlink.sh on the server."
    reason = f"{found[-1][1]}: {found[-1][2]}"
    if f"{folder}/scenario.toml" in reason:
        return (
            f"The server has not laid out {folder}. Try the very scenario file (and version of "
            "fedkd) that lies in the server's folder, or `fedkd deploy check` there with yours."
        )
    return f"{reason} What was accepted is kept; the same command goes on from there."

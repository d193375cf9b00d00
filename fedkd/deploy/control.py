"""Flower's own command line, used from a configuration of its own so that nobody's is changed."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fedkd.deploy.processes import script_environment
from fedkd.errors import DeployError

NAME = "fedkd"
_SECONDS = 120.0
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "NO_COLOR": "1",
}


@dataclass(frozen=True)
class Node:
    """A SuperNode as the SuperLink knows it."""

    identifier: int
    status: str


@dataclass(frozen=True)
class Control:
    """The control interface of one SuperLink."""

    environment: Mapping[str, str]

    def nodes(self) -> list[Node]:
        """Return every SuperNode that is registered."""
        reply = self._ask("supernode", "list", NAME)
        nodes = [Node(int(n["node-id"]), str(n["status"])) for n in reply["nodes"]]
        return [node for node in nodes if node.status != "unregistered"]

    def register(self, public_key: Path) -> int:
        """Let in the node with this key; return the node's number."""
        return int(self._ask("supernode", "register", str(public_key), NAME)["node-id"])

    def unregister(self, node: int) -> None:
        """Refuse this node from now on."""
        self._ask("supernode", "unregister", str(node), NAME)

    def submit(self, app: Path, config: Path) -> int:
        """Send an app with its run configuration (a TOML file); return the run's number."""
        return int(self._ask("run", str(app), NAME, "-c", str(config))["run-id"])

    def status(self, run: int) -> str:
        """Return the status of a run, such as ``running`` or ``finished:completed``."""
        return str(self._ask("ls", NAME, "--run-id", str(run))["runs"][0]["status"])

    def stop(self, run: int) -> None:
        """Stop a run."""
        self._ask("stop", str(run), NAME)

    def log(self, run: int) -> subprocess.Popen[str]:
        """Follow the log of a run; the caller reads its standard output and ends it."""
        return subprocess.Popen(
            ["flwr", "log", str(run), NAME, "--stream"],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _ask(self, *arguments: str) -> dict[str, Any]:
        try:
            done = subprocess.run(
                ["flwr", *arguments, "--format", "json"],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeployError(f"flwr {arguments[0]} did not end in {_SECONDS:.0f} s.") from error
        reply = _json_in(done.stdout)
        if done.returncode or not reply.get("success", False):
            why = reply.get("error-message") or (done.stderr or done.stdout).strip()
            raise DeployError(f"flwr {' '.join(arguments[:2])} failed: {str(why).strip()}")
        return reply


@contextmanager
def control_of(address: str, ca: Path) -> Iterator[Control]:
    """Give the control interface at ``HOST:PORT``; its configuration is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fedkd-") as home:
        connection = {"address": address, "root-certificates": str(ca.resolve())}
        values = {"superlink": {"default": NAME, NAME: connection}}
        (Path(home) / "config.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
        yield Control(script_environment() | _QUIET | {"FLWR_HOME": home})


def _json_in(text: str) -> dict[str, Any]:
    """Return the JSON object in an output that may have words around it."""
    start = text.find("{")
    if start < 0:
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

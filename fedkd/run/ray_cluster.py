"""A Ray of our own, or the user's: started privately, found quickly, and gone at the end."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from fedkd.errors import EngineError, ScenarioError, expected
from fedkd.run.ray_party import ROOT
from fedkd.scenario import Resources

import psutil  # isort: skip  # Ray brings its own copy, and makes it importable

CONNECT_SECONDS = 5.0
CLUSTER_SECONDS = 12.0
LEAVE_SECONDS = 5.0
_LONGEST_FOLDER = 32  # a Unix socket's path has 107 characters, and Ray's own part is long
_GB = 1e9
_PARTY_ACTOR = "ClientAppActor"
_PRIVATE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ADDRESS": "local",
    # Without a share of a GPU a party must not see one.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}


@dataclass
class Cluster:
    """A Ray that this process is connected to; ``folder`` is its private temporary folder."""

    folder: Path
    own: bool
    processes: list[psutil.Process] = field(default_factory=list)

    def stop_parties(self) -> None:
        """End the actors at once, whatever they are doing; disconnecting would wait for them."""
        if not self.own:
            _kill_actors()
            return
        for process in self._family():
            with suppress(psutil.Error):
                if _PARTY_ACTOR in "".join(process.cmdline()[:1]):
                    process.kill()

    def remember(self) -> None:
        """Note our processes now: later, orphaned, they could not be told from others."""
        self.processes = list({*self.processes, *self._family()})

    def reap(self) -> None:
        """Disconnect, wait for our processes to leave, and end those that do not."""
        ray.shutdown()
        _, left = psutil.wait_procs(self.processes, timeout=LEAVE_SECONDS)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=LEAVE_SECONDS)

    def _family(self) -> list[psutil.Process]:
        mine = []
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if any(str(self.folder) in word for word in child.cmdline()):
                    mine += [child, *child.children(recursive=True)]
        return mine if self.own else []


@contextmanager
def open_cluster(resources: Resources, slots: int | None) -> Iterator[Cluster]:
    """Start a Ray with ``slots`` places for a party each, or connect to ``resources.address``.

    Raises :class:`EngineError` where the address does not answer as Ray does.
    """
    folder = Path(tempfile.mkdtemp(prefix="fedkd-ray-", dir=_short_folder()))
    before = dict(os.environ)
    cluster = Cluster(folder, own=resources.address is None)
    try:
        os.environ.update(_PRIVATE, RAY_TMPDIR=str(folder), FLWR_HOME=str(folder / "flwr"))
        with _quiet_logs():
            if resources.address is None:
                _start(folder, slots or 1, resources)
            else:
                _connect(folder, resources.address)
            cluster.remember()
            yield cluster
    finally:
        with uninterrupted():
            cluster.remember()
            cluster.reap()
            shutil.rmtree(folder, ignore_errors=True)
            os.environ.clear()
            os.environ.update(before)


def party_resources(resources: Resources) -> dict[str, float]:
    """Return what Ray reserves for each actor; on our own Ray a party takes one place."""
    if resources.address is None:
        return {"num_cpus": 1, "num_gpus": resources.gpus}
    wanted: dict[str, float] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    if resources.memory is not None:
        wanted["memory"] = int(resources.memory * _GB)
    return wanted


def check_cluster(resources: Resources) -> None:
    """Raise :class:`ScenarioError` where no node of the cluster can hold one party.

    Also where memory is the scarcest resource: Flower counts places by cores and GPUs alone, and
    the actors without memory would never start.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray's
    asked = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": (resources.memory or 0) * _GB}
    keys = {"CPU": "cpus", "GPU": "gpus", "memory": "memory"}
    for name, each in asked.items():
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if each > most:
            shown = most / _GB if name == "memory" else most
            raise ScenarioError(
                expected(
                    f"run.resources.{keys[name]}",
                    getattr(resources, keys[name]),
                    f"be at most {shown:g}, the most that a node of the cluster has",
                    f"{keys[name]} = {shown:g}",
                )
            )
    for node in nodes:
        places = min(node.get(n, 0.0) // asked[n] for n in ("CPU", "GPU") if asked[n])
        if resources.memory and places * asked["memory"] > node.get("memory", 0.0):
            raise ScenarioError(
                expected(
                    "run.resources.memory",
                    resources.memory,
                    f"fit {places:g} times into a node that has room for {places:g} by cores",
                    "more cpus for each party",
                )
            )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done, and Ray's last words with it."""
    main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        if main:
            signal.signal(signal.SIGINT, previous)


def _kill_actors() -> None:
    # Flower keeps its handles to itself.
    handles = [thing for thing in gc.get_objects() if type(thing) is ActorHandle]
    for handle in handles:
        if _PARTY_ACTOR in repr(handle) and ray.is_initialized():
            with suppress(RayError, ValueError):
                ray.kill(handle)


def _start(folder: Path, slots: int, resources: Resources) -> None:
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    os.environ["PYTHONPATH"] = path
    arguments: dict[str, Any] = {"num_cpus": slots, "_temp_dir": str(folder)}
    if not resources.gpus:
        arguments["num_gpus"] = 0
    _init(folder, address="local", **arguments)


def _connect(folder: Path, address: str) -> None:
    _knock(address)
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    try:
        _init(folder, address=address, runtime_env={"env_vars": {"PYTHONPATH": path}})
    except (RuntimeError, ValueError, ConnectionError) as error:
        raise EngineError(f"{_no_ray(address)} Ray says: {error}") from error


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise EngineError(
            expected("run.resources.address", address, "read host:port", "127.0.0.1:6379")
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise EngineError(
            expected(
                "run.resources.address",
                address,
                f"answer ({error})",
                "starting it with `ray start --head`, or leaving address out",
            )
        ) from error
    # ray.init would try for minutes, and cannot be interrupted while it does.
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        answer = subprocess.run(ask, capture_output=True, timeout=CLUSTER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _no_ray(address) from error
    if answer.returncode:
        raise _no_ray(address)


def _no_ray(address: str) -> EngineError:
    return EngineError(
        expected("run.resources.address", address, "be a Ray cluster", "host:port of `ray start`")
    )


def _init(folder: Path, **arguments: Any) -> None:
    # Ray puts the working directory first on the actors' path, before the folder of this code.
    here = Path.cwd()
    neutral = folder / "empty"
    neutral.mkdir()
    os.chdir(neutral)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(include_dashboard=False, **quiet, **arguments)
    finally:
        os.chdir(here)


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_FOLDER else "/tmp"


@contextmanager
def _quiet_logs() -> Iterator[None]:
    # Failures come back as errors; Flower and Ray would print their tracebacks as well.
    loggers = [logging.getLogger(name) for name in ("flwr", "ray")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

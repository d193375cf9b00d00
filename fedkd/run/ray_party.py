"""The parties' app as Ray's actors run it: the same app, found in the same files."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import fedkd

ROOT = Path(fedkd.__file__).resolve().parents[1]
CODE_DIFFERS = "another fedkd:"
_PACKAGES = ("fedkd", "clients")
_PARTITION = "partition-id"


@dataclass(frozen=True)
class Origin:
    """Where a run was started: the parties' app, the code's place and digest, the directory."""

    app: str
    place: str
    digest: str
    directory: str


@dataclass
class Assignment:
    """What the parties are to do: the run configuration, and which party each node stands for.

    ``order[i]`` is the party of Flower's i-th node.
    """

    config: dict[str, bool | float | int | str] = field(default_factory=dict)
    order: tuple[int, ...] = ()


class PartyApp(ClientApp):
    """Calls the app named by ``origin``, or ``app`` instead, with the assignment in its context.

    Flower's simulation gives parties no run configuration. Ray pickles this object anew for each
    message, so whatever ``assignment`` holds when a message goes out reaches the actor with it.
    """

    def __init__(self, origin: Origin, app: ClientApp | None, assignment: Assignment) -> None:
        super().__init__()
        self.origin = origin
        self.app = app
        self.assignment = assignment

    def __call__(self, message: Message, context: Context) -> Message:
        """Run the app for one message and release the GPU memory that it leaves unused."""
        agree(self.origin)
        app = self.app or open_app(self.origin.app)
        node = int(str(context.node_config[_PARTITION]))
        config = {**context.node_config, _PARTITION: self.assignment.order[node]}
        try:
            return app(
                message,
                Context(
                    run_id=context.run_id,
                    node_id=context.node_id,
                    node_config=config,
                    state=context.state,
                    run_config=dict(self.assignment.config),
                ),
            )
        finally:
            _release_gpu()


@cache
def agree(origin: Origin) -> None:
    """Take over the run's working directory; raises where this process found other code."""
    if code_place() != origin.place and code_digest() != origin.digest:
        raise RuntimeError(f"{CODE_DIFFERS} {code_place()}")
    if Path(origin.directory).is_dir():
        os.chdir(origin.directory)


@cache
def open_app(name: str) -> ClientApp:
    """Return the app that is called module:attribute."""
    module, _, attribute = name.partition(":")
    app: ClientApp = getattr(importlib.import_module(module), attribute)
    return app


def code_place() -> str:
    """Return host and folder that this process has its code from."""
    return f"{platform.node()}:{ROOT}"


@cache
def code_digest() -> str:
    """Return the sha256 over the source files that a party runs, in the order of their names."""
    digest = hashlib.sha256()
    for name in _PACKAGES:
        package = Path(str(importlib.import_module(name).__file__)).parent
        for file in sorted(package.rglob("*.py")):
            digest.update(f"{name}/{file.relative_to(package).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _release_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

"""Running a scenario: every seed on the chosen engine, then the summary and the report."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedkd.methods import parse_methods
from fedkd.report.page import write_report
from fedkd.report.summary import write_summary
from fedkd.run.bounds import compute_bounds
from fedkd.run.folder import RunFolder
from fedkd.run.grid import InlineGrid, Tap, UserConfig
from fedkd.run.prepare import prepare_run
from fedkd.scenario import Scenario

CLIENT_APP = "clients.app:app"
SERVER_APP = "server.app:app"
App = TypeVar("App")
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Finished:
    """Where the results of a scenario lie."""

    folder: Path
    seeds: tuple[RunFolder, ...]
    report: Path


def run_scenario(
    scenario: Scenario,
    *,
    fresh: bool = False,
    note: Callable[[str], None] = lambda line: None,
    tap: Tap | None = None,
    client_app: ClientApp | None = None,
) -> Finished:
    """Run every seed that is not done yet, then write ``summary.json`` and ``report.html``.

    ``fresh`` discards earlier results of the same configuration. ``note`` is told a line a seed.
    ``tap`` sees every message and ``client_app`` stands in for the parties' app (both for tests).
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _QUIET.items()})
    parse_methods(scenario.method)
    base = scenario.folder()
    if fresh and base.is_dir():
        shutil.rmtree(base)
    folders = []
    for seed in scenario.seeds:
        folder = RunFolder(scenario.folder(seed))
        if folder.done:
            note(f"seed {seed}: complete already")
        else:
            note(f"seed {seed}: {folder.root}")
            run_inline(scenario, seed, tap=tap, client_app=client_app)
        folders.append(folder)
    write_summary(base)
    return Finished(base, tuple(folders), write_report(base))


def run_inline(
    scenario: Scenario, seed: int, *, tap: Tap | None = None, client_app: ClientApp | None = None
) -> RunFolder:
    """Run one seed in this process."""
    folder = prepare_run(scenario, seed)
    parties = scenario.parties.count
    compute_bounds(scenario, seed, folder, parties)
    config: UserConfig = {"seed": seed, "run-folder": str(folder.root.resolve())}
    app = client_app or _load(CLIENT_APP, ClientApp)
    grid = InlineGrid(app, parties, config, tap)
    server = _load(SERVER_APP, ServerApp)
    server(grid, Context(1, 1, {}, RecordDict(), dict(config)))
    return folder


def _load(name: str, kind: type[App]) -> App:
    module, _, attribute = name.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    if not isinstance(app, kind):
        raise TypeError(f"Expected {name} to be a {kind.__name__}")
    return app

"""Running a scenario: every seed on the chosen engine, then the summary and the report."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedkd.run.arms import arms_of, share_bounds, write_arms
from fedkd.run.bounds import add_bounds, has_bounds
from fedkd.run.checks import check_methods
from fedkd.run.devices import place
from fedkd.run.folder import RunFolder
from fedkd.run.grid import InlineGrid, Tap, UserConfig
from fedkd.run.prepare import prepare_run
from fedkd.scenario import Scenario

CLIENT_APP = "clients.app:app"
SERVER_APP = "server.app:app"
App = TypeVar("App")
GridFor = Callable[[RunFolder, UserConfig], Grid]


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
    check_methods(scenario)
    place(scenario)
    arms = arms_of(scenario)
    if arms:
        return _run_arms(scenario, arms, fresh, note)
    base = scenario.folder()
    if fresh and base.is_dir():
        shutil.rmtree(base)
    folders = [RunFolder(scenario.folder(seed)) for seed in scenario.seeds]
    with ExitStack() as engines:
        grid_for: GridFor | None = None
        for seed, folder in zip(scenario.seeds, folders, strict=True):
            if folder.done and _has_bounds(scenario, folder):
                note(f"seed {seed}: complete already")
                continue
            note(f"seed {seed}: {folder.root}")
            prepare_run(scenario, seed)
            if not folder.done:
                grid_for = grid_for or engines.enter_context(open_engine(scenario, tap, client_app))
                run_seed(scenario, seed, grid_for)
            _add_bounds(scenario, seed, folder)
    if scenario.topics is not None:
        from fedkd.report.topic_run import write_topic_report  # noqa: PLC0415  # imports matplotlib

        return Finished(base, tuple(folders), write_topic_report(base))
    from fedkd.report.page import write_report  # noqa: PLC0415  # imports matplotlib
    from fedkd.report.summary import write_summary  # noqa: PLC0415

    write_summary(base)
    return Finished(base, tuple(folders), write_report(base))


def _has_bounds(scenario: Scenario, folder: RunFolder) -> bool:
    if scenario.topics is not None:
        from fedkd.run.topic_bounds import has_topic_bounds  # noqa: PLC0415

        return has_topic_bounds(scenario, folder)
    return has_bounds(folder)


def _add_bounds(scenario: Scenario, seed: int, folder: RunFolder) -> None:
    if scenario.topics is not None:
        from fedkd.run.topic_bounds import add_topic_bounds  # noqa: PLC0415  # imports the encoders

        add_topic_bounds(scenario, seed, folder)
    else:
        add_bounds(scenario, seed, folder, scenario.parties.count)


def _run_arms(
    scenario: Scenario,
    arms: tuple[tuple[str, Scenario], ...],
    fresh: bool,
    note: Callable[[str], None],
) -> Finished:
    """Run every arm of a sweep as a scenario of its own, then draw them in one picture."""
    if fresh and scenario.folder().is_dir():
        shutil.rmtree(scenario.folder())
    folders: list[RunFolder] = []
    for name, arm in arms:
        note(f"arm {name}")
        for seed in arm.seeds:
            share_bounds(arms[0][1], arm, seed)
        folders += run_scenario(arm, note=note).seeds
    from fedkd.report.frontier import write_frontier  # noqa: PLC0415  # imports matplotlib

    base = write_arms(scenario)
    return Finished(base, tuple(folders), write_frontier(base))


def run_seed(scenario: Scenario, seed: int, grid_for: GridFor) -> RunFolder:
    """Run one seed: the parties on the grid, the ServerApp in this thread."""
    folder = prepare_run(scenario, seed)
    config: UserConfig = {"seed": seed, "run-folder": str(folder.root.resolve())}
    server = _load(SERVER_APP, ServerApp)
    server(grid_for(folder, config), Context(1, 1, {}, RecordDict(), dict(config)))
    return folder


@contextmanager
def open_engine(
    scenario: Scenario, tap: Tap | None = None, client_app: ClientApp | None = None
) -> Iterator[GridFor]:
    """Start the scenario's engine and yield what gives the grid of a seed."""
    if scenario.run.backend == "ray":
        from fedkd.run.ray import open_ray  # noqa: PLC0415  # imports Ray

        with open_ray(scenario, CLIENT_APP, client_app) as grid_for:
            yield grid_for
        return
    app = client_app or _load(CLIENT_APP, ClientApp)
    yield lambda folder, config: InlineGrid(app, scenario.parties.count, config, tap)


def _load(name: str, kind: type[App]) -> App:
    module, _, attribute = name.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    if not isinstance(app, kind):
        raise TypeError(f"Expected {name} to be a {kind.__name__}")
    return app

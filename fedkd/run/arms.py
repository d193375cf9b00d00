"""A sweep over privacy settings: every arm is a scenario of its own below the common folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedkd.files import write_json
from fedkd.run.bounds import has_bounds
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario

FILE = "arms.json"


def arms_of(scenario: Scenario) -> tuple[tuple[str, Scenario], ...]:
    """Return name and scenario of every arm; empty where there is no sweep.

    An arm's results lie in ``<scenario's folder>/<arm>/<configuration>/<seed>``.
    """
    if scenario.privacy is None or not scenario.privacy.arm:
        return ()
    run = scenario.run.model_copy(update={"out": str(scenario.folder())})
    return tuple(
        (
            arm.name,
            scenario.model_copy(
                update={
                    "name": arm.name,
                    "privacy": scenario.privacy.with_arm(arm.name),
                    "run": run,
                }
            ),
        )
        for arm in scenario.privacy.arm
    )


def write_arms(scenario: Scenario) -> Path:
    """Write which arms there are and where, for the report; return the common folder."""
    folder = scenario.folder()
    listed = [
        {
            "name": name,
            "folder": str(arm.folder().relative_to(folder)),
            "mechanism": arm.privacy.mechanism.name if arm.privacy else "none",
            "unit": arm.privacy.mechanism.unit if arm.privacy else None,
        }
        for name, arm in arms_of(scenario)
    ]
    write_json(folder / FILE, {"scenario": scenario.name, "arms": listed})
    return folder


def share_bounds(first: Scenario, arm: Scenario, seed: int) -> None:
    """Copy the reference students of the first arm: they depend on data and seed alone."""
    done, own = RunFolder(first.folder(seed)), RunFolder(arm.folder(seed))
    there = has_bounds(done) and done.bounds.is_dir()
    if done.root != own.root and there and not own.bounds.is_dir():
        shutil.copytree(done.bounds, own.bounds)

"""How many parties run at once, and on which devices."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from fedkd.errors import ScenarioError, expected
from fedkd.scenario import Resources, Scenario

_GB = 1e9
_EPSILON = 1e-9


@dataclass(frozen=True)
class Machine:
    """What this machine has: cores, GPUs by name, and bytes of memory."""

    cores: int
    gpus: tuple[str, ...]
    memory: float


@dataclass(frozen=True)
class Placement:
    """Where parties run. ``at_once`` is None where a Ray cluster elsewhere decides."""

    at_once: int | None
    text: str


def this_machine() -> Machine:
    """Return what this process may use, container limits of cores included."""
    import joblib  # type: ignore[import-untyped]  # noqa: PLC0415  # scikit-learn brings it
    import torch  # noqa: PLC0415

    count = torch.cuda.device_count()
    return Machine(
        cores=joblib.cpu_count(),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(count)),
        memory=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    )


def place(scenario: Scenario, machine: Machine | None = None) -> Placement:
    """Return how the scenario's parties are placed.

    Raises :class:`ScenarioError` where one party asks for more than there is.
    """
    resources = scenario.run.resources
    parties = scenario.parties.count
    if scenario.run.backend == "remote":
        return Placement(parties, "every party on its own machine")
    if scenario.run.backend == "ray":
        check_shape(resources)
        if resources.address is not None:
            where = f"the Ray cluster at {resources.address}"
            return Placement(None, f"as many parties at once as fit on {where}")
    machine = machine or this_machine()
    if scenario.run.backend == "inline":
        device = f"GPU 0 ({machine.gpus[0]})" if machine.gpus else "the CPU"
        return Placement(1, f"one party after the other, on {device}")
    at_once = min(parties, fitting(resources, machine), _flower_threads())
    cores = f"{resources.cpus:g} core{'s' if resources.cpus > 1 else ''} each"
    return Placement(
        at_once, f"{at_once} of {parties} parties at once, {cores}, {_on(resources, machine)}"
    )


def fitting(resources: Resources, machine: Machine) -> int:
    """Return how many parties this machine holds at once; at least one, or an error."""
    wanted = [
        ("cpus", resources.cpus, machine.cores, "cores"),
        ("gpus", resources.gpus, len(machine.gpus), "GPUs"),
        ("memory", resources.memory or 0.0, machine.memory / _GB, "GB of memory"),
    ]
    for name, each, there, unit in wanted:
        if each > there:
            raise ScenarioError(
                expected(
                    f"run.resources.{name}",
                    each,
                    f"be at most the {there:g} {unit} here",
                    f"{name} = {there:g}, or the address of a Ray cluster",
                )
            )
    return min(math.floor(there / each + _EPSILON) for _, each, there, _ in wanted if each)


def check_shape(resources: Resources) -> None:
    """Raise :class:`ScenarioError` for an amount that Ray cannot give to one party."""
    for name, value in (("cpus", resources.cpus), ("gpus", resources.gpus)):
        if value > 1 and value != int(value):
            raise ScenarioError(
                expected(
                    f"run.resources.{name}",
                    value,
                    "be whole where it is above 1",
                    f"{name} = {math.ceil(value)}",
                )
            )


def _on(resources: Resources, machine: Machine) -> str:
    if not resources.gpus:
        return "on the CPU"
    names = ", ".join(dict.fromkeys(machine.gpus))
    count = len(machine.gpus)
    return f"{resources.gpus:g} GPU each, on {count} GPU{'s' if count > 1 else ''} ({names})"


def _flower_threads() -> int:
    # Flower hands messages to its actors from a thread pool of Python's default size.
    return min(32, (os.cpu_count() or 1) + 4)

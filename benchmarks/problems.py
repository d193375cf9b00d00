"""The transport problems that are timed, their float64 solution, and how results are written."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EMBEDDING = 64
SPREAD, NOISE, PEAK = 0.7, 1.5, 4.0
PACKAGES = ("numpy", "torch", "numba", "POT", "geomloss", "ott-jax", "jax")


@dataclass(frozen=True)
class Cell:
    """``epsilon`` is relative to the mean cost."""

    batch: int
    labels: int
    epsilon: float
    teachers: int = 1

    def __str__(self) -> str:
        many = f", {self.teachers} teachers" if self.teachers > 1 else ""
        return f"({self.batch}, {self.labels}, {self.epsilon:g}{many})"


@dataclass(frozen=True)
class Problem:
    """Student logits (batch, labels), targets (batch, teachers, labels), a cost of mean 1."""

    logits: Tensor
    targets: Tensor
    cost: Tensor
    points: Tensor
    epsilon: float

    def part(self, count: int) -> Problem:
        return Problem(
            self.logits[:count], self.targets[:count], self.cost, self.points, self.epsilon
        )

    def exact(self) -> tuple[Tensor, Tensor]:
        """Return student and first teacher in float64, summing to one."""
        target = self.targets[:, 0].double()
        return torch.softmax(self.logits.double(), 1), target / target.sum(1, keepdim=True)


def make_problem(cell: Cell, seed: int = 0) -> Problem:
    """Labels in √K clusters, cost the distance between them; peaky softmaxes share a true label."""
    draw = np.random.default_rng(seed)
    clusters = max(1, round(cell.labels**0.5))
    centres = draw.normal(size=(clusters, EMBEDDING))
    points = centres[np.arange(cell.labels) % clusters]
    points = points + SPREAD * draw.normal(size=(cell.labels, EMBEDDING))
    cost = np.linalg.norm(points[:, None] - points[None], axis=2)
    truth = draw.integers(cell.labels, size=cell.batch)
    logits = NOISE * draw.normal(size=(cell.batch, 1 + cell.teachers, cell.labels))
    logits[np.arange(cell.batch), :, truth] += PEAK
    both = torch.as_tensor(logits)
    return Problem(
        both[:, 0].float(),
        torch.softmax(both[:, 1:], 2).float(),
        torch.as_tensor(cost / cost.mean()),
        torch.as_tensor(points / cost.mean(), dtype=torch.float32),
        cell.epsilon,
    )


def reference(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return value (batch,) and gradient in the logits (batch, labels), float64.

    Plain float64 Sinkhorn until every marginal is within 1e-12 (L1); independent of fedkd's.
    """
    s, b = problem.exact()
    kernel = torch.exp(-problem.cost / problem.epsilon)
    f, value, rows, v = torch.empty_like(s), torch.empty(len(s)).double(), torch.arange(len(s)), b
    a = s
    while len(rows):
        for _ in range(50):
            sums = v @ kernel.T
            u = a / sums
            columns = u @ kernel
            v = b / columns
        off = (u * (v @ kernel.T) - a).abs().sum(1)
        done = off <= 1e-12
        f[rows[done]] = -problem.epsilon * sums[done].log()
        g = -problem.epsilon * columns.log()
        value[rows[done]] = ((a * f[rows]).sum(1) + (b * g).sum(1))[done]
        rows, a, b, v = rows[~done], a[~done], b[~done], v[~done]
    return value, logit_gradient(s, f)


def logit_gradient(s: Tensor, f: Tensor) -> Tensor:
    return s * (f - (s * f).sum(1, keepdim=True))


def gradient_errors(found: Tensor, right: Tensor) -> tuple[float, float]:
    """Return median and 99th percentile of the relative error of a row; nan where there is one."""
    error = (found.double() - right).norm(dim=1) / right.norm(dim=1)
    if bool(error.isnan().any()):
        return float("nan"), float("nan")
    return float(error.quantile(0.5)), float(error.quantile(0.99))


def timed(run: Callable[[], Any]) -> float:
    """Return the CPU time of one call in milliseconds, all threads of the process together."""
    begin = time.process_time()
    run()
    return 1000 * (time.process_time() - begin)


def machine(further: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the figures depend on, without naming the host."""
    versions = {}
    for name in (*PACKAGES, *further):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "clock": "CPU time of the process, milliseconds",
        "gemm_gflops_float32": gemm_gflops(),
    }


def gemm_gflops(size: int = 2048) -> float:
    """Return the rate of torch's float32 matrix product, the floor of everything here."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / 1e6 / min(timed(lambda: left @ right) for _ in range(7))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="the cells with targets, few repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    return parser


def report(rows: Sequence[dict[str, Any]], about: dict[str, Any], file: Path | None) -> None:
    """Print the rows as a Markdown table and write them to ``file``."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(_cell(row.get(name)) for name in names) + " |")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": about, "rows": list(rows)}, indent=1, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


Floats = NDArray[np.float64]

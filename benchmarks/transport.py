"""Time of one transport loss, forward and gradient in the logits, beside other solvers.

    python benchmarks/transport.py --quick --json benchmarks/results/transport.json

All solvers get the same problem in the same process in turn; the figure is the median CPU time on
one thread. A peer that would need too much memory or time gets the first rows of the batch, and
its time is scaled up. Errors are relative, of the gradient in the logits, against a float64
solution.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

from collections.abc import Sequence  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.peers import PEERS, Run  # noqa: E402
from benchmarks.problems import (  # noqa: E402
    Cell,
    Problem,
    arguments,
    gradient_errors,
    machine,
    make_problem,
    reference,
    report,
    timed,
)
from fedkd.transport.gibbs import gibbs_kernel  # noqa: E402
from fedkd.transport.path import Entropic  # noqa: E402
from fedkd.transport.sinkhorn import sinkhorn, solve  # noqa: E402

QUICK = [
    Cell(32, 77, 0.1), Cell(256, 2, 0.1), Cell(256, 6, 0.1), Cell(256, 28, 0.1),
    Cell(256, 77, 0.1), Cell(256, 77, 1), Cell(2048, 77, 0.1), Cell(256, 151, 0.1),
    Cell(256, 77, 0.03), Cell(32, 1000, 1),
]  # fmt: skip
FULL = [
    *QUICK,
    Cell(32, 28, 0.1), Cell(2048, 28, 0.1), Cell(2048, 151, 0.1), Cell(256, 28, 0.03),
    Cell(256, 77, 0.01), Cell(256, 5, 0.1, 10), Cell(256, 77, 0.1, 10), Cell(32, 77, 0.1, 100),
]  # fmt: skip
OURS, FLOOR = "fedkd", "floor: these steps as matrix products"
TOLERANCE, STEPS = 1e-5, 20_000
REPEATS, PATIENCE = 9, 1500.0
TARGETS = {
    ((256, 77, 0.1), "POT batch, best use"): 60,
    ((256, 77, 0.1), "POT batch, its gradient"): 150,
    ((256, 77, 0.1), "ott-jax kernel, 100 steps"): 3,
    ((256, 77, 0.1), "loop of exact LPs"): 30,
    ((2048, 77, 0.1), FLOOR): 0.45,
    ((256, 151, 0.1), FLOOR): 0.4,
}
GATE = (5e-5, 3e-3)


def ours(problem: Problem) -> Run:
    transport = Entropic(gibbs_kernel(problem.cost, problem.epsilon), STEPS, TOLERANCE)
    shares, rows = torch.ones(problem.targets.shape[:2]), torch.arange(len(problem.targets))
    prepared = transport.prepare(problem.targets)

    def run() -> tuple[Tensor, Tensor]:
        leaf = problem.logits.clone().requires_grad_()
        value = transport.total(torch.softmax(leaf, 1), prepared, shares, rows)
        value.backward()
        assert leaf.grad is not None
        return value.detach(), leaf.grad

    return run


def values_of(problem: Problem) -> Tensor:
    """Return our value of every pair with the first teacher; the timed call returns their sum."""
    gibbs = gibbs_kernel(problem.cost, problem.epsilon)
    student = torch.softmax(problem.logits, 1)
    return sinkhorn(
        student, problem.targets[:, 0], gibbs, iterations=STEPS, tolerance=TOLERANCE
    ).detach()


def rows_of(cell: Cell, gflops: float, repeats: int) -> list[dict[str, Any]]:
    problem = make_problem(cell)
    runs, share, notes = {OURS: ours(problem)}, {OURS: 1.0}, dict.fromkeys([OURS, *PEERS], "")
    for name, (make, numbers) in PEERS.items() if cell.teachers == 1 else ():
        # A tenth of the rows where steps are many: POT keeps each for its gradient.
        most = numbers / (10 if cell.epsilon < 0.05 else 1)
        count = min(cell.batch, max(8, int(most / cell.labels**2)))
        if count * cell.labels**2 > 20 * most:
            continue  # minutes for nothing
        try:
            runs[name] = make(problem.part(count))
        except ImportError:
            continue
        share[name] = cell.batch / count
        notes[name] = "" if count == cell.batch else f"{count} rows, scaled"
    right = reference(problem) if cell.teachers == 1 else None
    answers, times = {}, {}
    for name, run in runs.items():
        times[name] = [timed(lambda name=name, run=run: answers.update({name: run()}))]
        if times[name][0] < PATIENCE or name == OURS:  # the first call compiles
            times[name] = [timed(run)]
        print(cell, name, f"{times[name][0]:.2f} ms", file=sys.stderr, flush=True)
    for turn in range(1, repeats):
        for name, run in runs.items():
            if times[name][0] * (turn + 1) < PATIENCE:
                times[name].append(timed(run))
    answers[OURS] = (values_of(problem), answers[OURS][1])
    spent = {name: median(found) * share[name] for name, found in times.items()}
    rows = [
        _row(cell, name, spent[name], spent[OURS], answers[name], right, notes[name])
        for name in runs
    ]
    return [*rows, *floor_rows(cell, problem, gflops, spent[OURS])]


def floor_rows(cell: Cell, problem: Problem, gflops: float, mine: float) -> list[dict[str, Any]]:
    """Return the time that the steps taken would need at the speed of a large matrix product."""
    if cell.labels == 2 or cell.teachers > 1:
        return []
    gibbs = gibbs_kernel(problem.cost, problem.epsilon)
    student = torch.softmax(problem.logits, 1)
    found = solve(student, problem.targets[:, 0], gibbs, iterations=STEPS, tolerance=TOLERANCE)
    assert found.unconverged == 0, f"{found.unconverged} did not converge"
    spent = float(found.iterations.sum()) * 4 * cell.labels**2 / gflops / 1e6
    row = _row(
        cell, FLOOR, spent, mine, None, None, f"{found.iterations.double().mean():.1f} steps"
    )
    return [row]


def _row(
    cell: Cell, name: str, spent: float, mine: float, answer: tuple[Tensor, Tensor] | None,
    right: tuple[Tensor, Tensor] | None, note: str,
) -> dict[str, Any]:  # fmt: skip
    row: dict[str, Any] = {
        "cell": str(cell), "solver": name, "milliseconds": round(spent, 4),
        "ratio": round(spent / mine, 3), "gradient_error": None, "gradient_error_p99": None,
        "value_error": None, "target": "", "note": note,
    }  # fmt: skip
    if answer is not None and right is not None:
        count = len(answer[0])
        middle, far = gradient_errors(answer[1], right[1][:count])
        off = (answer[0].double() - right[0][:count]).abs().mean() / right[0][:count].abs().mean()
        broken = math.isnan(middle)
        row["gradient_error"] = None if broken else middle
        row["gradient_error_p99"] = None if broken else far
        row["value_error"] = None if broken else float(off)
        if broken:
            row["note"] = "NaN in the gradient"
        if name == OURS:
            good = not broken and middle <= GATE[0] and far <= GATE[1]
            row["target"] = f"error <= {GATE[0]:g}, {GATE[1]:g}: {'met' if good else 'MISSED'}"
    wanted = TARGETS.get(((cell.batch, cell.labels, cell.epsilon), name))
    if wanted is None and name == "POT batch, best use":
        wanted = 10
    if wanted is not None and cell.teachers == 1:
        met = "met" if row["ratio"] >= wanted else "MISSED"
        row["target"] = f">= {wanted:g}: {met}"
    return row


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(__doc__).parse_args(given)
    torch.set_num_threads(1)
    about = machine()
    rows: list[dict[str, Any]] = []
    for cell in QUICK if options.quick else FULL:
        rows += rows_of(cell, about["gemm_gflops_float32"], 5 if options.quick else REPEATS)
    report(rows, about, options.json)


if __name__ == "__main__":
    main()

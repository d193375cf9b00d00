"""Time of weighted barycentres beside POT's loop, and of the exact paths.

    python benchmarks/barycentre.py --quick --json benchmarks/results/barycentre.json

The peer is ``ot.bregman.barycenter(method="sinkhorn_stabilized")``, one row at a time: POT's
default method does not converge to the barycentre of unequal weights. CPU time of one thread.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

from collections.abc import Sequence  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import ot  # noqa: E402
import torch  # noqa: E402

from benchmarks.problems import Cell, arguments, machine, make_problem, report, timed  # noqa: E402
from fedkd.transport.barycentre import barycentre  # noqa: E402
from fedkd.transport.exact import two_labels, wasserstein_1d  # noqa: E402
from fedkd.transport.linear_program import lp  # noqa: E402

CELLS = [Cell(64, 5, 0.1, 4), Cell(64, 28, 0.1, 10), Cell(64, 77, 0.1, 10)]
PEER_ROWS, TURNS = 12, 5


def barycentres(cell: Cell) -> list[dict[str, Any]]:
    problem = make_problem(cell)
    draw = np.random.default_rng(1)
    weights = torch.as_tensor(draw.dirichlet(np.ones(cell.teachers), cell.batch))
    probs = problem.targets.double()
    probs /= probs.sum(dim=2, keepdim=True)
    answers: dict[str, Any] = {}

    def ours() -> None:
        answers["fedkd"] = barycentre(probs, weights, problem.cost, cell.epsilon)[0].numpy()

    def peer() -> None:
        answers["POT"] = np.stack(
            [
                ot.bregman.barycenter(
                    p.T.numpy(), problem.cost.numpy(), cell.epsilon, weights=w.numpy(),
                    method="sinkhorn_stabilized", numItermax=5000, stopThr=1e-6,
                )
                for p, w in zip(probs[:PEER_ROWS], weights, strict=False)
            ]
        )  # fmt: skip

    ours()
    turns = [(timed(ours), timed(peer) * cell.batch / PEER_ROWS) for _ in range(TURNS)]
    mine, theirs = (float(x) for x in np.median(turns, axis=0))
    apart = float(np.abs(answers["POT"] - answers["fedkd"][:PEER_ROWS]).sum(axis=1).max())
    met = "met" if theirs >= 10 * mine and apart <= 1e-4 else "MISSED"
    name = f"barycentre {cell}"
    return [
        _row(name, "fedkd", mine, 1.0, 0.0, ""),
        _row(name, "POT, stabilised, loop", theirs, theirs / mine, apart, f">= 10: {met}"),
    ]


def exact_paths() -> list[dict[str, Any]]:
    draw = np.random.default_rng(2)
    rows = []
    for labels, name in ((2, "two labels (256, 2)"), (28, "line (256, 28)")):
        values = torch.sort(torch.as_tensor(draw.normal(size=labels))).values
        cost = (values[:, None] - values).abs()
        logits = torch.as_tensor(draw.normal(size=(256, labels)), dtype=torch.float32)
        b = torch.as_tensor(draw.dirichlet(np.ones(labels), 256))

        def ours(
            z: torch.Tensor = logits, b: torch.Tensor = b, cost: torch.Tensor = cost,
            values: torch.Tensor = values,
        ) -> torch.Tensor:  # fmt: skip
            leaf = z.clone().requires_grad_()
            s = torch.softmax(leaf, 1)
            found = (
                two_labels(s, b.to(z.dtype), float(cost[0, 1]))
                if len(values) == 2
                else wasserstein_1d(s, b.to(z.dtype), values)
            )
            found.sum().backward()
            return found.detach()

        right = lp(torch.softmax(logits.double(), 1).numpy(), b.numpy(), cost.numpy())
        off = float(np.abs(ours(logits.double()).numpy() - right).max())
        ours()
        mine = float(np.median([timed(lambda: [ours() for _ in range(100)]) for _ in range(9)]))
        mine /= 100
        met = "met" if mine < 0.2 and off <= 1e-10 else "MISSED"
        rows.append(_row(name, "fedkd", mine, 1.0, off, f"< 0.2 ms: {met}"))
    return rows


def _row(
    cell: str, solver: str, spent: float, ratio: float, error: float, target: str
) -> dict[str, Any]:
    return {
        "cell": cell, "solver": solver, "milliseconds": round(spent, 4), "ratio": round(ratio, 2),
        "gradient_error": None, "value_error": error, "target": target,
    }  # fmt: skip


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(__doc__).parse_args(given)
    torch.set_num_threads(1)
    about = machine()
    rows = [row for cell in CELLS for row in barycentres(cell)] + exact_paths()
    report(rows, about, options.json)


if __name__ == "__main__":
    main()

"""A GPU: teacher pass, student step, and whole runs with 1, 2, 4 and 8 parties on one GPU.

python benchmarks/gpu.py [--json FILE]

Without a GPU it says so and exits 0. Models are small transformers made here; nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedkd.files import read_json
from fedkd.models import classifier, training
from fedkd.run.engine import run_scenario
from fedkd.scenario import Model, Scenario
from fedkd.scenario_file import parse_scenario

ROWS = 4096
STEPS = 3
SHARES = (1, 2, 4, 8)
PARTIES = 8
TRANSFORMER = {"model": "transformer", "layers": 6, "width": 384, "heads": 6, "max_tokens": 64}
Figures = dict[str, Any]


def texts(rows: int) -> list[str]:
    """Return rows of 40 made-up words each."""
    draw = np.random.default_rng(0)
    return [" ".join(f"w{i}" for i in row) for row in draw.integers(0, 3000, (rows, 40))]


def seconds_of(work: Callable[[], object]) -> float:
    """Return the least seconds of a few repetitions, with the GPU's queue drained."""
    taken = []
    for _ in range(STEPS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)


def passes() -> Figures:
    """Rows a second of a teacher's pass over the transfer set and of a student's epoch."""
    public = texts(ROWS)
    model = Model(**TRANSFORMER, epochs=1)  # type: ignore[arg-type]  # a table, as in a scenario
    label = np.arange(ROWS) % 4

    def fresh() -> classifier.Classifier:
        return classifier.build(model, 4, seed=0, public_text=public, fit_text=public, cache=None)

    teacher = fresh()
    student = fresh()
    inputs = training.as_inputs(teacher, public)
    loss = training.hard_labels(label)
    torch.cuda.reset_peak_memory_stats()
    answer = seconds_of(lambda: training.predict(teacher, inputs))
    epoch = seconds_of(lambda: training.fit(student, inputs, loss, model, seed=0))
    return {
        "teacher_rows_per_second": ROWS / answer,
        "student_rows_per_second": ROWS / epoch,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def whole(out: str, share: int) -> Figures:
    """A whole run on Ray with ``share`` parties on the GPU at once."""
    begin = time.perf_counter()
    finished = run_scenario(scenario(out, share))
    stages = read_json(finished.seeds[0].result)["seconds"]
    return {"share": share, "seconds": time.perf_counter() - begin, "stages": stages}


def scenario(out: str, share: int) -> Scenario:
    """Eight transformer teachers and a student on the generated corpus."""
    return parse_scenario(
        {
            "name": f"gpu-{share}",
            "data": {"source": "generated:moods", "transfer": {"rows": 1000}},
            "parties": {"count": PARTIES, "partition": {"by": "iid"}},
            "teacher": {**TRANSFORMER, "epochs": 2},
            "student": {**TRANSFORMER, "epochs": 2},
            "method": [{"name": "knot"}],
            "run": {
                "out": out,
                "backend": "ray",
                "resources": {"cpus": 1, "gpus": 1 / share},
            },
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU here: nothing measured.")
        return
    print(torch.cuda.get_device_name(0))
    result: Figures = {"device": torch.cuda.get_device_name(0), "passes": passes(), "runs": []}
    for name, value in result["passes"].items():
        print(f"{name}: {value:,.1f}")
    print("\n| parties on the GPU at once | seconds of parties | seconds in all |")
    print("| ---: | ---: | ---: |")
    for share in SHARES:
        with tempfile.TemporaryDirectory() as out:
            run = whole(out, share)
        result["runs"].append(run)
        print(f"| {share} | {run['stages']['parties']:.1f} | {run['seconds']:.1f} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

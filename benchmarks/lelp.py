"""Fitting subclasses to a million embeddings beside scikit-learn, and what a student step costs.

    python -m benchmarks.lelp --json benchmarks/results/lelp.json

The embeddings (rows × 384 float16, two classes) lie in a memory-mapped file. Both fits find the
first five principal axes of each class on one thread: ours by streamed covariance, the peer's by
IncrementalPCA with its default batch (5 · width) on the rows of a class. The error is the largest
angle to the span found in float64 from the whole file. Resident memory is the growth of the peak
over that before each fit, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

WIDTH, CLASSES, SUBCLASSES = 384, 2, 5
CHUNK = 20_000


def write_embeddings(folder: Path, rows: int) -> None:
    """Write h.npy (rows, 384) float16 and y.npy (rows,): two classes of decaying spectra."""
    draw = np.random.default_rng(0)
    file = np.lib.format.open_memmap(
        folder / "h.npy", mode="w+", dtype=np.float16, shape=(rows, WIDTH)
    )
    turns = [np.linalg.qr(draw.normal(size=(WIDTH, WIDTH)))[0] for _ in range(CLASSES)]
    scale = 0.95 ** np.arange(WIDTH)
    label = draw.integers(CLASSES, size=rows).astype(np.int8)
    for start in range(0, rows, CHUNK):
        own = label[start : start + CHUNK]
        noise = (draw.normal(size=(len(own), WIDTH)) * scale).astype(np.float32)
        values = np.empty_like(noise)
        for index, turn in enumerate(turns):
            values[own == index] = noise[own == index] @ turn.astype(np.float32) + 0.3 * index
        file[start : start + len(own)] = values
    file.flush()
    np.save(folder / "y.npy", label)


def fit_ours(folder: Path) -> tuple[float, int, list[NDArray[np.float64]]]:
    from fedkd.subclass.basis import principal_basis
    from fedkd.subclass.statistics import class_moments

    rows, label = np.load(folder / "h.npy", mmap_mode="r"), np.load(folder / "y.npy")
    member = np.eye(CLASSES, dtype=np.float32)[label]
    before, start = peak(), time.perf_counter()
    found = [principal_basis(m, SUBCLASSES).directions for m in class_moments(rows, member)]
    return time.perf_counter() - start, peak() - before, found


def fit_peer(folder: Path) -> tuple[float, int, list[NDArray[np.float64]]]:
    from sklearn.decomposition import IncrementalPCA

    rows, label = np.load(folder / "h.npy", mmap_mode="r"), np.load(folder / "y.npy")
    size = 5 * WIDTH
    before, start = peak(), time.perf_counter()
    found = []
    for index in range(CLASSES):
        own = np.flatnonzero(label == index)
        pca = IncrementalPCA(SUBCLASSES)
        for first in range(0, len(own), size):
            batch = own[first : first + size]
            if len(batch) >= SUBCLASSES:
                pca.partial_fit(rows[batch].astype(np.float32))
        found.append(pca.components_.T.astype(np.float64))
    return time.perf_counter() - start, peak() - before, found


def fit_exact(folder: Path) -> tuple[float, int, list[NDArray[np.float64]]]:
    rows, label = np.load(folder / "h.npy", mmap_mode="r"), np.load(folder / "y.npy")
    found = []
    for index in range(CLASSES):
        own = np.flatnonzero(label == index)
        chunks = [own[i : i + CHUNK] for i in range(0, len(own), CHUNK)]
        mean = sum(rows[c].astype(np.float64).sum(axis=0) for c in chunks) / len(own)
        scatter = np.zeros((WIDTH, WIDTH))
        for chunk in chunks:
            centred = rows[chunk].astype(np.float64) - mean
            scatter += centred.T @ centred
        found.append(np.linalg.eigh(scatter)[1][:, : -SUBCLASSES - 1 : -1])
    return 0.0, 0, found


def angle(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the largest principal angle in degrees, by the sine, which small angles need."""
    one, other = np.linalg.qr(first)[0], np.linalg.qr(second)[0]
    rest = other - one @ (one.T @ other)
    sine = min(float(np.linalg.svd(rest, compute_uv=False)[0]), 1.0)
    return float(np.degrees(np.arcsin(sine)))


def peak() -> int:
    """Return the peak of resident memory in bytes (Linux; a child does not inherit this one)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def alone(fit: Any, folder: Path) -> tuple[float, int, int, list[NDArray[np.float64]]]:
    """Run a fit in a new process; return seconds, growth, whole peak and directions."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        seconds, growth, found = pool.submit(fit, folder).result()
        return seconds, growth, pool.submit(peak).result(), found


def step_costs(steps: int = 300) -> dict[str, dict[str, float]]:
    """Return CPU milliseconds a step of KD, LELP and LELP with five heads, by student."""
    from fedkd.data.generated import moods
    from fedkd.data.tables import Columns
    from fedkd.scenario import Model

    draw = np.random.default_rng(0)
    vectors = [" ".join(f"{v:.3f}" for v in row) for row in draw.normal(size=(4000, WIDTH))]
    sentences = moods(Columns("text", "label", None))[0]["train"].text
    small = {"layers": 2, "width": 128, "heads": 2, "max_tokens": 32}
    students: list[tuple[str, dict[str, Any], Any]] = [
        ("mlp 384-256", {"model": "mlp", "widths": [256]}, vectors),
        ("bow, 64 hidden", {"model": "bow", "hidden": 64}, sentences),
        ("transformer, 2 layers of 128", {"model": "transformer", **small}, sentences),
    ]
    return {
        name: student_costs(
            Model.model_validate({**values, "batch_size": 64}),
            texts,
            steps // 10 if "transformer" in name else steps,
        )
        for name, values, texts in students
    }


def student_costs(model: Any, texts: list[str], steps: int) -> dict[str, float]:
    """Return the least CPU milliseconds a step over five turns, the methods taking turns."""
    import torch

    from fedkd.intake import Intake
    from fedkd.methods.kd import Kd
    from fedkd.methods.lelp import Lelp
    from fedkd.models import classifier, training
    from fedkd.models.defaults import defaults
    from fedkd.scenario import Labels
    from fedkd.transport.ground_cost import label_space

    torch.set_num_threads(1)
    draw, rows = np.random.default_rng(0), len(texts)
    space = label_space(Labels(), ("no", "yes"))
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for key, count, method in (("kd", 1, Kd(temperature=4)), ("lelp", 1, Lelp()),
                                   ("lelp, 5 heads", 5, Lelp())):  # fmt: skip
            folder = Path(name) / key
            names = tuple(f"p{k}" for k in range(count))
            for party in names:
                (folder / party).mkdir(parents=True)
                np.save(folder / party / "probs.npy", draw.dirichlet([1, 1], rows))
            intake = Intake(folder, names, rows, 2, np.ones(count))
            for question in method.questions(intake, space):
                for party in names:
                    values = draw.dirichlet(np.ones(5), (rows, 2)).astype(np.float32)
                    np.save(folder / party / f"{question.name}.npy", values)
            targets = method.targets(intake, space)
            student = classifier.build(
                model, targets.layout.outputs(2), seed=0, public_text=texts, fit_text=texts
            )
            optimizer = training._optimizer(student.module, defaults(model))
            runs[key] = (method, targets, student, student.inputs(texts), optimizer)
    found: dict[str, list[float]] = {key: [] for key in runs}
    for repeat in range(5):
        order = np.random.default_rng(repeat).integers(rows, size=(steps, 64))
        for key, (method, targets, student, inputs, optimizer) in runs.items():
            start = time.process_time()
            for batch in order:
                training._step(
                    student,
                    inputs,
                    lambda logits, index, m=method, t=targets: m.loss(logits, t, index),
                    batch,
                    optimizer,
                )
            found[key].append((time.process_time() - start) / steps * 1e3)
    return {key: round(min(values), 3) for key, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps-only", action="store_true")
    given = parser.parse_args()
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in ("numpy", "scikit-learn", "torch")},
        "step_ms": step_costs(),
    }
    print(result["step_ms"])
    if not given.steps_only:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_embeddings(folder, given.rows)
            exact = alone(fit_exact, folder)[3]
            fits: dict[str, Any] = {}
            for key, fit in (("ours", fit_ours), ("IncrementalPCA", fit_peer)):
                seconds, growth, whole, found = alone(fit, folder)
                angles = [angle(a, b) for a, b in zip(exact, found, strict=True)]
                fits[key] = {
                    "seconds": round(seconds, 2),
                    "resident_growth_mb": round(growth / 1e6, 1),
                    "resident_peak_mb": round(whole / 1e6, 1),
                    "angle_degrees": max(angles),
                }
                print(key, fits[key], file=sys.stderr)
            result |= {"rows": given.rows, "width": WIDTH, "fits": fits}
            result["ratio"] = fits["IncrementalPCA"]["seconds"] / fits["ours"]["seconds"]
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

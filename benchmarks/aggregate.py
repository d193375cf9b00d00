"""Speed of the streaming aggregation of many teachers' files, beside reading the same bytes.

    python benchmarks/aggregate.py --quick --json benchmarks/results/aggregate.json

Files are made in a temporary folder and read once before, so the page cache is warm. Figures are
CPU time of one thread; ``resident`` is the largest memory of a process that aggregates and does
nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import resource  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks.problems import arguments, machine, report, timed  # noqa: E402
from fedkd.aggregate import geometric_mean, mixture, robust_mean  # noqa: E402
from fedkd.encoding import encode_roots, encode_top  # noqa: E402
from fedkd.intake import Intake  # noqa: E402

SIZES = {"full": (200_000, 77, 100), "small": (20_000, 77, 100)}
WAYS = {
    "mixture": mixture,
    "geometric mean": geometric_mean,
    "median": lambda intake: robust_mean(intake, "median"),
    "trimmed mean": lambda intake: robust_mean(intake, "trimmed-mean"),
}
TURNS = 3


def make_intake(folder: Path, size: tuple[int, int, int], code: str) -> Intake:
    """Write peaky softmaxes, a few blocks of them over and over, and return the intake."""
    rows, labels, teachers = size
    draw = np.random.default_rng(0)
    logits = 2.4 * draw.normal(size=(2000, labels))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    block: Any = probs.astype(np.float16)
    if code == "uint8 roots":
        block = encode_roots(probs)
    elif code == "top 8":
        block = encode_top(probs, 8)
    names = tuple(f"party-{k:03d}" for k in range(teachers))
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shape = (rows, *block.shape[1:])
        file = np.lib.format.open_memmap(
            folder / name / "probs.npy", mode="w+", dtype=block.dtype, shape=shape
        )
        for start in range(0, rows, len(block)):
            part = np.roll(block, k, axis=0)[: rows - start]
            file[start : start + len(part)] = part
        file.flush()
    sizes = draw.integers(100, 1000, teachers).astype(np.float64)
    return Intake(folder, names, rows, labels, sizes)


def read(intake: Intake) -> None:
    """Read every byte of the releases into one buffer of a mebibyte."""
    space = bytearray(2**20)
    for party in intake.parties:
        with intake.path(party).open("rb", buffering=0) as file:
            while file.readinto(space):
                pass


def measure(size: tuple[int, int, int], code: str, ways: Sequence[str]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        intake = make_intake(Path(place), size, code)
        count = sum(intake.path(party).stat().st_size for party in intake.parties)
        read(intake)
        turns: dict[str, list[float]] = {"plain read": []} | {way: [] for way in ways}
        for way in ways:
            WAYS[way](intake) if size[0] <= 20_000 else None
        for _ in range(TURNS):
            turns["plain read"].append(timed(lambda: read(intake)))
            for way in ways:
                turns[way].append(timed(lambda way=way: WAYS[way](intake)))
        plain = float(np.median(turns["plain read"]))
        resident = {way: resident_megabytes(place, size, intake, way) for way in ways}
    rows = []
    for way, spent in turns.items():
        middle = float(np.median(spent))
        rows.append(
            {
                "cell": f"({size[0]}, {size[1]}, {size[2]} teachers), {code}",
                "solver": way,
                "milliseconds": round(middle, 1),
                "ratio": round(plain / middle, 3),
                "gradient_error": None,
                "GB_per_s": round(count / middle / 1e6, 2),
                "resident_MB": resident.get(way),
                "target": _target(size, code, way, plain / middle, resident.get(way)),
            }
        )
    return rows


def resident_megabytes(place: str, size: tuple[int, int, int], intake: Intake, way: str) -> int:
    """Return the peak memory of a fresh process that does this and nothing else."""
    code = (
        "import sys; from benchmarks import aggregate; "
        "aggregate.alone(sys.argv[1], tuple(map(int, sys.argv[2:5])), sys.argv[5])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, place, *map(str, size), way],
        check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    return int(done.stdout.split()[-1])


def alone(place: str, size: tuple[int, int, int], way: str) -> None:
    rows, labels, teachers = size
    names = tuple(f"party-{k:03d}" for k in range(teachers))
    WAYS[way](Intake(Path(place), names, rows, labels, np.ones(teachers)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def _target(
    size: tuple[int, int, int], code: str, way: str, ratio: float, resident: int | None
) -> str:
    if size != SIZES["full"] or code != "float16" or way != "mixture":
        return ""
    speed = "met" if ratio >= 0.5 else "MISSED"
    memory = "met" if resident is not None and resident < 1000 else "MISSED"
    return f"ratio >= 0.5: {speed}; resident < 1000 MB: {memory}"


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(__doc__).parse_args(given)
    about = machine()
    rows = measure(SIZES["full"], "float16", ["mixture"])
    rows += measure(SIZES["small"], "float16", list(WAYS))
    for code in ("uint8 roots", "top 8"):
        rows += measure(SIZES["small"], code, ["mixture"])
    report(rows, about, options.json)


if __name__ == "__main__":
    main()

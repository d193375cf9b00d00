"""Time of a KNOT epoch with ten teachers against a cross-entropy epoch of the same student.

    FEDKD_DATA=… python benchmarks/epoch.py --quick --json benchmarks/results/epoch.json

The student is the bag of words on real texts; the teachers are peaky softmaxes around the true
label. CPU time of one thread, both in one process and in turn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import csv  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from typing import Any, cast  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402

from benchmarks.problems import arguments, machine, report, timed  # noqa: E402
from fedkd.intake import Intake  # noqa: E402
from fedkd.methods.baselines import CrossEntropy  # noqa: E402
from fedkd.methods.knot import Knot  # noqa: E402
from fedkd.methods.method import Method  # noqa: E402
from fedkd.models import classifier, training  # noqa: E402
from fedkd.scenario import Labels, Model  # noqa: E402
from fedkd.transport.ground_cost import LabelSpace, label_space  # noqa: E402

ROWS, TEACHERS, EPOCHS, TURNS = 4000, 10, 3, 5
NOISE, PEAK, MOST = 1.5, 4.0, 1.5


def read_texts(name: str) -> tuple[list[str], NDArray[np.int64], list[str]]:
    """Return texts, labels and label names of the training table of a data set."""
    file = Path(os.environ["FEDKD_DATA"]) / name / "train.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    order = np.random.default_rng(0).permutation(len(table))[:ROWS]
    picked = [table[i] for i in order]
    names = sorted({row["label"] for row in table})
    label = np.array([names.index(row["label"]) for row in picked])
    return [row["text"] for row in picked], label, names


def embed(names: Sequence[str]) -> NDArray[np.floating]:
    """Return character n-grams of the names: some geometry where no encoder is at hand."""
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit_transform(names)
    return cast(NDArray[np.floating], np.asarray(grams.todense()))


def make_intake(folder: Path, label: NDArray[np.int64], labels: int) -> Intake:
    draw = np.random.default_rng(1)
    names = tuple(f"party-{k}" for k in range(TEACHERS))
    for name in names:
        logits = NOISE * draw.normal(size=(len(label), labels))
        logits[np.arange(len(label)), label] += PEAK
        (folder / name).mkdir()
        probs = torch.softmax(torch.as_tensor(logits), 1).numpy().astype(np.float16)
        np.save(folder / name / "probs.npy", probs)
    return Intake(folder, names, len(label), labels, draw.integers(100, 900, TEACHERS) * 1.0)


def measure(name: str, spaces: Sequence[LabelSpace]) -> list[dict[str, Any]]:
    texts, label, names = read_texts(name)
    model = Model(model="bow", epochs=EPOCHS, patience=EPOCHS)
    student = classifier.build(model, len(names), seed=0, public_text=texts, fit_text=texts)
    inputs = student.inputs(texts)
    first = {key: value.clone() for key, value in student.module.state_dict().items()}

    def epochs(method: Method, intake: Intake, space: LabelSpace) -> Callable[[], Any]:
        targets = method.targets(intake, space)

        def run() -> None:
            student.module.load_state_dict(first)
            training.fit(
                student, inputs, lambda z, rows: method.loss(z, targets, rows), model, seed=0
            )

        return run

    with tempfile.TemporaryDirectory() as place:
        intake = make_intake(Path(place), label, len(names))
        runs = {"cross-entropy": epochs(CrossEntropy(), intake, spaces[0])}
        for space in spaces:
            for objective in ("sum", "mixture"):
                run = epochs(Knot(objective=objective), intake, space)
                runs[f"knot/{objective}, {space.geometry}"] = run
        spent: dict[str, list[float]] = {key: [] for key in runs}
        for turn in range(TURNS + 1):
            for key, run in runs.items():
                took = timed(run) / EPOCHS
                spent[key] += [took] if turn else []
    middle = {key: float(np.median(found)) for key, found in spent.items()}
    return [
        {
            "cell": f"{name}, {len(label)} rows, {len(names)} labels, {TEACHERS} teachers",
            "solver": key,
            "milliseconds": round(took, 2),
            "ratio": round(took / middle["cross-entropy"], 3),
            "gradient_error": None,
            "target": _target(key, took / middle["cross-entropy"]),
        }
        for key, took in middle.items()
    ]


def _target(key: str, ratio: float) -> str:
    if key == "cross-entropy":
        return ""
    return f"ratio < {MOST}: {'met' if ratio < MOST else 'MISSED'}"


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(__doc__).parse_args(given)
    torch.set_num_threads(1)
    about = machine()
    stars = [str(i) for i in read_texts("amazon_stars")[2]]
    line = tuple(range(len(stars)))
    rows = measure(
        "amazon_stars",
        [
            label_space(Labels(geometry="ordinal", values=line), stars),
            label_space(Labels(geometry="hybrid", values=line), stars),
        ],
    )
    intents = read_texts("banking77")[2]
    named = label_space(Labels(geometry="embedding"), intents, embed=embed)
    rows += measure("banking77", [named])
    report(rows, about, options.json)


if __name__ == "__main__":
    main()

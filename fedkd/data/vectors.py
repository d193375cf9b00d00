"""Sets of vectors under a name: handwritten digits by parity, and Gaussian clusters by parity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.data.tables import Columns, Table
from fedkd.errors import DataError, expected
from fedkd.seeds import numpy_generator

Floats = NDArray[np.float64]
LABELS = ("even", "odd")
NAMES = ("digits", "clusters", "round-clusters")
CLUSTERS, AXES = 20, 20
DIGIT_SPLITS = {"train": 800, "test": 600, "transfer": 397}
CLUSTER_SPLITS = {"train": 3000, "test": 2000, "transfer": 1000}


def vectors(name: str, columns: Columns, seed: int) -> dict[str, Table]:
    """Return the splits train, test and transfer of a set, each row's true class as ``domain``.

    - ``digits``: scikit-learn's 1,797 handwritten digits (64 pixels, 0 to 1), dealt by seed
    - ``clusters``: 20 Gaussian clusters in 20 dimensions, centres N(0, 1) with axis j scaled by
      0.75^j and of mean norm 3.2, noise 0.48, then a random rotation; all drawn by seed
    - ``round-clusters``: the same with equal axes, mean norm 4.4, noise 1: no axis matters more

    The label is the parity of digit or cluster, so each label has five or ten true subclasses.
    """
    for key, want in (("text", "text"), ("label", "label"), ("domain", "domain")):
        if getattr(columns, key) not in (want, None):
            raise DataError(
                expected(
                    f"data.{key}", getattr(columns, key), f"be a column of generated:{name}",
                    f"data.{key} = {want!r}",
                )
            )  # fmt: skip
    draw = numpy_generator(seed, "vectors", 0, name)
    if name == "digits":
        rows, truth = _digits(draw)
        sizes = DIGIT_SPLITS
    else:
        flat = name == "round-clusters"
        rows, truth = _clusters(draw, decay=1.0 if flat else 0.75, norm=4.4 if flat else 3.2,
                                noise=1.0 if flat else 0.48)  # fmt: skip
        sizes = CLUSTER_SPLITS
    tables, start = {}, 0
    for split, size in sizes.items():
        part = slice(start, start + size)
        tables[split] = vector_table(
            f"generated:{name} {split}", rows[part], truth[part] % 2, truth[part]
        )
        start += size
    return tables


def vector_table(
    origin: str, rows: NDArray[np.floating], label: NDArray[np.generic] | None,
    domain: NDArray[np.generic] | None = None,
) -> Table:  # fmt: skip
    """Return a table whose texts spell the vectors (n, D), six digits a number."""
    return Table(
        origin=origin,
        text=tuple(" ".join(f"{value:.6g}" for value in row) for row in rows.tolist()),
        label=None if label is None else tuple(label.tolist()),
        domain=("",) * len(rows) if domain is None else tuple(str(d) for d in domain.tolist()),
        number=tuple(range(1, len(rows) + 1)),
        columns=("text", "label", "domain"),
    )


def read_vectors(path: Path, origin: str, columns: Columns) -> tuple[Table, tuple[str, ...]]:
    """Read an npz file that holds ``x`` (n, D), ``y`` (n,) and perhaps ``domain`` (n,).

    Rows with a number that is not finite are dropped and counted. Raises :class:`DataError`.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise DataError(
            expected("data file", origin, f"be readable ({error})", "np.savez(file, x=…, y=…)")
        ) from error
    rows, label = held.get("x"), held.get("y")
    if rows is None or rows.ndim != 2 or not len(rows) or rows.dtype.kind not in "fiu":
        raise DataError(
            expected("data file", origin, "hold numbers x (n, D)", "np.savez(file, x=…, y=…)")
        )
    domain = held.get("domain") if columns.domain is not None else None
    for name, values in (("y", label if columns.label is not None else rows), ("domain", domain)):
        if (values is None and (name == "y" or columns.domain)) or (
            values is not None and len(values) != len(rows)
        ):
            raise DataError(
                expected("data file", origin, f"hold {name} ({len(rows)},)", f"adding {name}")
            )
    kept = np.flatnonzero(np.isfinite(rows).all(axis=1))
    dropped = len(rows) - len(kept)
    table = vector_table(
        origin,
        rows[kept].astype(np.float64),
        None if columns.label is None or label is None else label[kept],
        None if domain is None else domain[kept],
    )
    note = f"{dropped} rows of {origin} have a number that is not finite (dropped)"
    return table, (note,) if dropped else ()


def _digits(draw: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # noqa: PLC0415  # few need it

    data = load_digits()
    order = draw.permutation(len(data.target))
    return np.asarray(data.data[order] / 16.0, np.float64), data.target[order].astype(np.int64)


def _clusters(
    draw: np.random.Generator, *, decay: float, norm: float, noise: float
) -> tuple[Floats, NDArray[np.int64]]:
    count = sum(CLUSTER_SPLITS.values())
    centres = draw.normal(size=(CLUSTERS, AXES)) * decay ** np.arange(AXES)
    centres *= norm / np.linalg.norm(centres, axis=1).mean()
    turn = np.linalg.qr(draw.normal(size=(AXES, AXES)))[0]
    truth = draw.integers(CLUSTERS, size=count)
    rows = (centres[truth] + noise * draw.normal(size=(count, AXES))) @ turn
    return rows, truth.astype(np.int64)

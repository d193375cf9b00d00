"""Files of text read as columns with `datasets`, one table a split."""

from __future__ import annotations

import csv
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets

from fedkd.data.rows import list_some
from fedkd.data.tables import Columns, Table
from fedkd.errors import DataError, expected


def read_table(path: Path, origin: str, columns: Columns) -> tuple[Table, tuple[str, ...]]:
    """Read one csv (UTF-8, header), jsonl or parquet file; return the table and its warnings.

    ``origin`` is what messages call the file, so that none of them tells where a machine keeps its
    data. Rows with empty text are dropped and counted. Nothing is left on the disk. Raises
    :class:`DataError` for a file that is missing, unreadable, empty or without a wanted column.
    """
    if not path.is_file():
        raise DataError(expected("data file", origin, "exist", "another path or file name"))
    with quiet_datasets(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        try:
            dataset = _load(path, cache)
        except (
            datasets.exceptions.DatasetGenerationError,
            OSError,
            ValueError,
            Warning,
        ) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            remedy = (
                "UTF-8, a header row and one field a column in every row"
                if path.suffix == ".csv"
                else "one type a column"
            )
            raise DataError(
                expected("data file", origin, f"be readable ({reason})", remedy)
            ) from error
    return table_of(dataset, origin, columns)


def table_of(
    dataset: datasets.Dataset, origin: str, columns: Columns
) -> tuple[Table, tuple[str, ...]]:
    """Pick the wanted columns of a loaded dataset; return the table and its warnings."""
    names = tuple(dataset.column_names)
    if columns.label not in names and not columns.label_needed:
        columns = replace(columns, label=None)
    for key in ("text", "label", "domain"):
        column = getattr(columns, key)
        if column is not None and column not in names:
            listed = ", ".join(names) or "none"
            raise DataError(
                expected(f"data.{key}", column, f"be a column of {origin}", f"one of its: {listed}")
            )
    if not len(dataset):
        raise DataError(expected("data file", origin, "hold rows", "a file that is not empty"))
    arrow = dataset.with_format("arrow")[:]
    text = [_words(value) for value in arrow.column(columns.text).to_pylist()]
    kept = [row for row, value in enumerate(text) if value]
    dropped = [row + 1 for row, value in enumerate(text) if not value]
    if not kept:
        raise DataError(
            expected(
                f"column {columns.text!r} of {origin}", "", "hold text", "another data.text column"
            )
        )
    table = Table(
        origin=origin,
        text=tuple(text[row] for row in kept),
        label=_picked(arrow, columns.label, kept),
        domain=tuple(_words(v) for v in _picked(arrow, columns.domain, kept) or [""] * len(kept)),
        number=tuple(row + 1 for row in kept),
        columns=names,
    )
    if not dropped:
        return table, ()
    return table, (f"{len(dropped)} rows of {origin} have no text: {list_some(dropped)} (dropped)",)


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Hide the progress bars of `datasets` for a while; the command line has its own."""
    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()


def _load(path: Path, cache: str) -> datasets.Dataset:
    options: dict[str, Any] = {"keep_in_memory": True, "cache_dir": cache}
    if path.suffix == ".jsonl":
        return datasets.Dataset.from_json(str(path), **options)
    if path.suffix == ".parquet":
        return datasets.Dataset.from_parquet(str(path), **options)
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    if not header:
        raise ValueError("the file is empty")
    # Guessing types would turn the texts "null" and "1.0" into something else, and a first row with
    # too many fields would turn its text into an index.
    features = datasets.Features({column: datasets.Value("string") for column in header})
    options |= {"features": features, "keep_default_na": False, "index_col": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Length of header or names")
        return datasets.Dataset.from_csv(str(path), encoding="utf-8-sig", **options)


def _picked(arrow: Any, column: str | None, kept: list[int]) -> tuple[Any, ...] | None:
    if column is None:
        return None
    values = arrow.column(column).to_pylist()
    return tuple(values[row] for row in kept)


def _words(value: object) -> str:
    return "" if value is None else str(value).strip()

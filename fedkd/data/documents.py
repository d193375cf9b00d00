"""Documents cut into words, before they are counted; and the classes that they carry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import DataError, expected

SPLITS = ("train", "val", "test")
_INTEGER = re.compile(r"\d+")


@dataclass(frozen=True)
class Documents:
    """Documents as words in their order, one entry a document in every field.

    ``splits`` are 'train', 'val' or 'test'; ``places`` say where a document stands, as (file, row),
    rows from 1; ``labels`` (documents,) int64 index ``label_names``, -1 unknown, or None where the
    source has no classes; ``topics`` (K, words) are the true ones where they are known.
    """

    tokens: tuple[tuple[str, ...], ...]
    splits: tuple[str, ...]
    places: tuple[tuple[str, int], ...]
    labels: NDArray[np.int64] | None
    label_names: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    topics: NDArray[np.float64] | None = None


def index_labels(
    values: Sequence[str], declared: Sequence[str] | None, places: Sequence[tuple[str, int]]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return each document's class index (-1 where ``values`` is empty) and the class names.

    Integers index the ``declared`` names, other values are looked up in them; without any, the
    names are the values, sorted. Raises :class:`DataError` naming the row of an undeclared class.
    """
    seen = {value for value in values if value}
    integers = all(_INTEGER.fullmatch(value) for value in seen)
    if declared is None:
        names = sorted(seen, key=lambda value: (int(value), value) if integers else (0, value))
        place = {name: index for index, name in enumerate(names)}
    else:
        names = list(declared)
        place = {str(i) if integers else name: i for i, name in enumerate(names)}
    for value, (file, row) in zip(values, places, strict=True):
        if value and value not in place:
            raise DataError(
                expected(
                    f"label of row {row} of {file}", value,
                    f"be one of the {len(names)} declared classes", "mending it or labels.json",
                )
            )  # fmt: skip
    return np.array([place.get(value, -1) for value in values], np.int64), tuple(names)

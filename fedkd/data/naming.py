"""Label names: what the rows hold, renamed, brought together over sources, and kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.data.sources import Points, Source
from fedkd.data.tables import Table
from fedkd.errors import DataError, expected

_INTEGER = re.compile(r"[+-]?\d+(\.0+)?")


@dataclass(frozen=True)
class NamedSource:
    """A source whose rows carry indices into ``names``; one (rows,) int64 array a split."""

    source: Source
    names: tuple[str, ...]
    labels: dict[str, NDArray[np.int64]]


def name_labels(source: Source, rename: Mapping[str, str]) -> NamedSource:
    """Turn the labels of every row of a source into indices of its renamed names.

    Integers index the declared names (or, without any, their own sorted values); strings are
    looked up in the declared names (or sorted). Raises :class:`DataError` naming the first row
    with a label that is missing, out of range or unknown.
    """
    if source.labels is not None and any(name in source.labels for name in _observed(source)):
        integers = False
    else:
        integers = all(_INTEGER.fullmatch(str(value)) for value in _observed(source))
    values = {
        split: [_value(table, row, integers) for row in range(len(table.text))]
        for split, table in source.tables.items()
    }
    declared = source.labels
    if declared is None:
        seen = sorted({value for split in values.values() for value in split})
        names = tuple(str(value) for value in seen)
        places: dict[Any, int] = {value: place for place, value in enumerate(seen)}
    else:
        names = declared
        places = {
            (place if integers else name): place for place, name in enumerate(declared)
        }
    renamed = tuple(dict.fromkeys(rename.get(name, name) for name in names))
    merged = [renamed.index(rename.get(name, name)) for name in names]
    labels = {}
    for split, table in source.tables.items():
        for row, value in enumerate(values[split]):
            if value not in places:
                raise DataError(_unknown(table, row, value, names, integers))
        labels[split] = np.array([merged[places[v]] for v in values[split]], dtype=np.int64)
    return NamedSource(source, renamed, labels)


def unify_names(named: Sequence[NamedSource]) -> tuple[str, ...]:
    """Return the label names of a union of sources.

    The first source's order where all hold the same set, otherwise every name, sorted.
    """
    if all(set(one.names) == set(named[0].names) for one in named):
        return named[0].names
    return tuple(sorted({name for one in named for name in one.names}))


def check_rename(named: Sequence[Source], rename: Mapping[str, str]) -> None:
    """Raise :class:`DataError` for a rename of a name that no source has."""
    known = {name for one in named for name in (one.labels or map(str, _observed(one)))}
    for name in rename:
        if name not in known:
            raise DataError(
                expected("labels.rename", name, "be a label", f"one of {', '.join(sorted(known))}")
            )


def keep_names(names: tuple[str, ...], keep: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return ``labels.keep`` once it is checked, or all names; raise :class:`DataError`."""
    if keep is None:
        return names
    for name in keep:
        if name not in names:
            raise DataError(
                expected("labels.keep", name, "be a label", f"one of {', '.join(names)}")
            )
    if len(set(keep)) != len(keep) or len(keep) < 2:
        raise DataError(
            expected("labels.keep", list(keep), "hold two or more different names", "that")
        )
    return keep


def merge_points(
    sources: Sequence[Source], kind: str, rename: Mapping[str, str], names: Sequence[str]
) -> tuple[Points | None, tuple[str, ...]]:
    """Return each name's point (its ``values`` or ``coordinates``), and warnings.

    None unless every name has one and only one point after renaming.
    """
    found: dict[str, set[tuple[float, ...]]] = {}
    for source in sources:
        points: Points = getattr(source, kind) or {}
        for name, point in points.items():
            found.setdefault(rename.get(name, name), set()).add(point)
    if not all(name in found for name in names):
        return None, ()
    split = [name for name in names if len(found[name]) > 1]
    if split:
        return None, (
            f"labels {', '.join(split)} were merged from labels with different {kind}; "
            f"none are used unless labels.{kind} gives them",
        )
    return {name: next(iter(found[name])) for name in names}, ()


def _observed(source: Source) -> set[Any]:
    labels = (table.label or () for table in source.tables.values())
    return {value for column in labels for value in column if value not in (None, "")}


def _value(table: Table, row: int, integers: bool) -> int | str:
    value = table.label[row] if table.label is not None else None
    text = "" if value is None else str(value).strip()
    if not text:
        raise DataError(
            expected(f"label of {table.where(row)}", value, "be given", "filling it in")
        )
    return int(float(text)) if integers else text


def _unknown(
    table: Table, row: int, value: object, names: tuple[str, ...], integers: bool
) -> str:
    if integers:
        return expected(
            f"label of {table.where(row)}",
            value,
            f"index one of {len(names)} label names, 0 … {len(names) - 1}",
            "mending that row or labels.json",
        )
    return expected(
        f"label of {table.where(row)}",
        value,
        f"be one of {', '.join(names)}",
        "mending that row or labels.json",
    )

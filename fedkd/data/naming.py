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
    observed = _observed(source)
    integers = all(_INTEGER.fullmatch(text) for text in map(_text, observed) if text)
    keys = {value: _key(value, integers) for value in observed}
    names: tuple[str, ...]
    if source.labels is None:
        seen = sorted({key for key in keys.values() if key is not None})
        names, places = tuple(map(str, seen)), {key: place for place, key in enumerate(seen)}
    else:
        names = source.labels
        places = {place if integers else name: place for place, name in enumerate(names)}
    renamed = tuple(dict.fromkeys(rename.get(name, name) for name in names))
    final = [renamed.index(rename.get(name, name)) for name in names]
    index = {value: final[places[key]] if key in places else -1 for value, key in keys.items()}
    labels = {}
    for split, table in source.tables.items():
        label = np.array([index[value] for value in table.label or ()], dtype=np.int64)
        if (label < 0).any():
            raise DataError(_unknown(table, int(np.argmax(label < 0)), names, integers))
        labels[split] = label
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
    known = {name for one in named for name in one.labels or map(_text, _observed(one))}
    for name in rename:
        if name not in known:
            raise DataError(
                expected("labels.rename", name, "be a label", f"one of {', '.join(sorted(known))}")
            )


def keep_names(names: tuple[str, ...], keep: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return ``labels.keep`` once it is checked, or all names; raise :class:`DataError`."""
    for name in keep or ():
        if name not in names:
            raise DataError(
                expected("labels.keep", name, "be a label", f"one of {', '.join(names)}")
            )
    kept = names if keep is None else keep
    if len(set(kept)) != len(kept) or len(kept) < 2:
        raise DataError(
            expected("labels", list(kept), "be two or more different names", "another labels.keep")
        )
    return kept


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
    try:
        return {value for table in source.tables.values() for value in table.label or ()}
    except TypeError as error:  # a list cannot be a member of a set
        raise DataError(
            expected("labels", source.name, "be one value a row", "a single-label column")
        ) from error


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _key(value: object, integers: bool) -> Any:
    text = _text(value)
    if not text:
        return None
    return int(float(text)) if integers else text


def _unknown(table: Table, row: int, names: tuple[str, ...], integers: bool) -> str:
    value = (table.label or ())[row]
    if not _text(value):
        relation, remedy = "be given", "filling it in, or removing that row"
    elif integers:
        relation = f"index one of the {len(names)} label names, 0 … {len(names) - 1}"
        remedy = "mending that row or labels.json"
    else:
        relation, remedy = f"be one of {', '.join(names)}", "mending that row or labels.json"
    return expected(f"label of {table.where(row)}", value, relation, remedy)

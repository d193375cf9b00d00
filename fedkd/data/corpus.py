"""The corpus: every split that a scenario uses, under one label list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedkd import scenario
from fedkd.data.naming import (
    NamedSource,
    check_rename,
    keep_names,
    merge_points,
    name_labels,
    unify_names,
)
from fedkd.data.rows import (
    Rows,
    digests,
    hash_order,
    join_rows,
    largest_remainder,
    list_some,
    normal_form,
)
from fedkd.data.sources import locate, read_source
from fedkd.data.tables import Columns, Table
from fedkd.errors import DataError, expected


@dataclass(frozen=True)
class Corpus:
    """Rows by split ("train", "test" and the split that the transfer set comes from).

    ``labels`` are the label names in order; ``values`` (one a label) and ``coordinates`` (by
    name) are positions that the source itself declares; ``warnings`` count what was left out.
    """

    labels: tuple[str, ...]
    splits: dict[str, Rows]
    values: tuple[float, ...] | None
    coordinates: dict[str, tuple[float, ...]] | None
    warnings: tuple[str, ...]


def load_corpus(data: scenario.Data, labels: scenario.Labels, seed: int) -> Corpus:
    """Read the sources of a scenario and bring them under one label list.

    Labels are renamed, then kept. A source without a test split gives ``data.test`` of its
    training rows, by label and by content hash; ``data.rows`` caps what is left the same way.
    Raises :class:`DataError`.
    """
    columns = Columns(data.text, data.label, None if data.domain == "source" else data.domain)
    drawn = "train" if data.transfer.source else data.transfer.from_
    wanted = ("train", "test", drawn)
    sources = [read_source(one, columns, wanted, seed) for one in locate(data.source)]
    check_rename(sources, labels.rename)
    named = [name_labels(source, labels.rename) for source in sources]
    every = unify_names(named)
    names = keep_names(every, labels.keep)
    warnings = [text for source in sources for text in source.warnings]
    lacking = [one.name for one in sources if drawn not in {*one.tables, "test"}]
    if lacking:
        warnings.append(f"{', '.join(lacking)}: no split {drawn!r} to draw transfer rows from")
    parts = []
    for one in named:
        rows, texts = _source_rows(one, names, named_by_source=data.domain == "source")
        warnings += texts
        parts.append(rows if "test" in rows else _hold_out(rows, data.test, seed))
    warnings += _check_test_labels(named, names)
    splits = {
        split: join_rows(rows[split] for rows in parts if split in rows)
        for split in dict.fromkeys(split for rows in parts for split in rows)
    }
    _check_filled(splits, data, sorted({split for source in sources for split in source.splits}))
    if data.rows is not None and data.rows < len(splits["train"]):
        chosen = np.sort(hash_order(splits["train"], seed, "rows")[: data.rows])
        splits["train"] = splits["train"].take(chosen)
    values, value_texts = merge_points(sources, "values", labels.rename, names)
    coordinates, point_texts = merge_points(sources, "coordinates", labels.rename, names)
    return Corpus(
        labels=names,
        splits=splits,
        values=tuple(values[name][0] for name in names) if values else None,
        coordinates=coordinates,
        warnings=(*warnings, *value_texts, *point_texts),
    )


def load_unlabelled(source: str, text: str) -> tuple[Rows, tuple[str, ...]]:
    """Read the train split of a source without labels (all -1); return it with its warnings.

    ``text`` is the column of a source that the catalogue does not know.
    """
    (located,) = locate(source)
    known = located.entry is not None or located.spec.startswith("generated:")
    read = read_source(located, Columns("text" if known else text, None, None), ("train",))
    table = read.tables["train"]
    blank = np.full(len(table.text), -1, dtype=np.int64)
    return Rows(table.text, blank, table.domain), read.warnings


def _source_rows(
    named: NamedSource, names: tuple[str, ...], *, named_by_source: bool
) -> tuple[dict[str, Rows], list[str]]:
    place = np.array([names.index(n) if n in names else -1 for n in named.names], dtype=np.int64)
    splits, warnings = {}, []
    for split, table in named.source.tables.items():
        label = place[named.labels[split]]
        domain = (named.source.name,) * len(label) if named_by_source else table.domain
        kept = np.flatnonzero(label >= 0)
        if len(kept) < len(label):
            warnings.append(
                f"{len(label) - len(kept)} rows of {table.origin} have a label outside "
                f"labels.keep (dropped)"
            )
        splits[split] = Rows(table.text, label, domain).take(kept)
    return splits, warnings


def _hold_out(splits: dict[str, Rows], share: float, seed: int) -> dict[str, Rows]:
    """Move ``share`` of the training texts to a test split, label by label, by content hash.

    Rows with the same normal form move together, so that no held-out text is trained on; such a
    group counts under its smallest label.
    """
    train = splits["train"]
    keys = [normal_form(text) for text in train.text]
    group_label: dict[str, int] = {}
    for key, label in zip(keys, train.label.tolist(), strict=True):
        group_label[key] = min(label, group_label.get(key, label))
    groups = list(group_label)
    digest = dict(zip(groups, digests(groups, seed, "test"), strict=True))
    sizes = Counter(group_label.values())
    classes = sorted(sizes)
    # At least one group of every label stays to train on.
    quota = dict(
        zip(
            classes,
            largest_remainder(round(share * len(groups)), [sizes[c] for c in classes]),
            strict=True,
        )
    )
    held: set[str] = set()
    for label in classes:
        members = sorted((k for k in groups if group_label[k] == label), key=digest.__getitem__)
        held.update(members[: min(quota[label], len(members) - 1)])
    is_held = np.array([key in held for key in keys], dtype=bool)
    return splits | {
        "train": train.take(np.flatnonzero(~is_held)),
        "test": train.take(np.flatnonzero(is_held)),
    }


def _check_test_labels(named: Sequence[NamedSource], names: tuple[str, ...]) -> list[str]:
    """Look for test rows whose label no training row has.

    A warning where a label list declares the name; otherwise the name is likely misspelt and the
    rows would be unanswerable, so it is an error.
    """
    trained = {
        one.names[label] for one in named for label in np.unique(one.labels["train"]).tolist()
    }
    warnings = []
    for one in named:
        if "test" not in one.labels:
            continue
        table, label = one.source.tables["test"], one.labels["test"].tolist()
        lost = [r for r, v in enumerate(label) if one.names[v] not in trained]
        lost = [r for r in lost if one.names[label[r]] in names]
        if lost and one.source.labels is None:
            raise DataError(_untrained(table, lost[0], one.names[label[lost[0]]], trained))
        if lost:
            numbers = list_some([table.number[row] for row in lost])
            warnings.append(
                f"{len(lost)} rows of {table.origin} have a label that no training row has: "
                f"{numbers} (kept)"
            )
    return warnings


def _untrained(table: Table, row: int, name: str, trained: set[str]) -> str:
    return expected(
        f"label of {table.where(row)}",
        name,
        f"be a label of some training row ({', '.join(sorted(trained))})",
        "labels.rename, labels.keep, or a labels.json that lists the names",
    )


def _check_filled(splits: dict[str, Rows], data: scenario.Data, known: Sequence[str]) -> None:
    if not len(splits["train"]) or not len(splits["test"]):
        empty = "train" if not len(splits["train"]) else "test"
        raise DataError(
            expected("data.source", data.source, f"hold {empty} rows", "a larger source")
        )
    wanted = data.transfer.from_
    if data.transfer.source is None and wanted not in splits:
        raise DataError(
            expected(
                "data.transfer.from",
                wanted,
                f"be a split of {data.source!r}",
                f"one of {', '.join(known)}",
            )
        )

"""Data sets of the Hugging Face hub, read as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from fedkd.data.table_files import quiet_datasets, table_of
from fedkd.data.tables import Columns, Table
from fedkd.errors import DataError, expected


@dataclass(frozen=True)
class HubId:
    """A data set on the hub: as the scenario spells it, its id, and its revision."""

    spec: str
    name: str
    revision: str | None


@dataclass(frozen=True)
class HubTables:
    """The splits that were read, the label names it declares, and the names of all splits."""

    tables: dict[str, Table]
    labels: tuple[str, ...] | None
    splits: tuple[str, ...]
    warnings: tuple[str, ...]


def read_hub(
    hub: HubId, columns: Columns, wanted: Sequence[str], remedy: str | None = None
) -> HubTables:
    """Load a data set from the hub or its local cache; only the wanted splits are read.

    ``remedy`` replaces the usual advice where the hub cannot be reached. Raises :class:`DataError`.
    """
    with quiet_datasets():
        try:
            loaded = datasets.load_dataset(hub.name, revision=hub.revision)
        except Exception as error:  # the hub raises a dozen kinds, from several libraries
            raise DataError(_unreachable(hub, error, remedy)) from error
        read = {
            split: table_of(loaded[split], f"{hub.name}:{split}", columns)
            for split in loaded
            if split in wanted
        }
    if "train" not in read:
        raise DataError(
            expected(
                "data.source", hub.spec, "hold a split train", f"one that does ({list(loaded)})"
            )
        )
    feature = loaded["train"].features.get(columns.label)
    return HubTables(
        tables={split: table for split, (table, _) in read.items()},
        labels=tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None,
        splits=tuple(loaded),
        warnings=tuple(text for _, texts in read.values() for text in texts),
    )


def _unreachable(hub: HubId, error: Exception, remedy: str | None) -> str:
    reason = " ".join(str(error).split())[:200]
    remedy = remedy or (
        "checking the id and the connection, or fetching the files elsewhere and giving "
        "data.source the path of a folder that holds train.csv and test.csv"
    )
    at = f" at {hub.revision}" if hub.revision else ""
    return expected(
        "data.source", hub.spec, f"load from the hub as {hub.name}{at} ({reason})", remedy
    )

"""The data sets known by name, and how to get the ones that are not at hand."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path

from pydantic import Field

from fedkd.frozen import Frozen

DATA_VARIABLE = "FEDKD_DATA"


class Entry(Frozen):
    """One data set: its files, columns and labels, and where to get it.

    ``values`` (one a label) and ``coordinates`` (by label name) are label positions; ``hub`` is a
    dataset id on the Hugging Face hub, ``revision`` the commit it is pinned to and ``hub_label``
    the label column there; ``licence`` is what the source states and nothing more.
    """

    name: str
    folder: str
    where: str
    licence: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[float, ...] | None = None
    coordinates: dict[str, tuple[float, ...]] | None = None
    hub: str | None = None
    revision: str | None = None
    hub_label: str = "label"
    files: dict[str, str] = Field({s: f"{s}.csv" for s in ("train", "validation", "test")})

    @property
    def points(self) -> dict[str, tuple[float, ...]] | None:
        """The ordinal values by label name, as points on a line."""
        if self.values is None:
            return None
        return {n: (v,) for n, v in zip(self.labels, self.values, strict=True)}

    def local_files(self) -> dict[str, Path]:
        """Return split = file for the files that exist under ``$FEDKD_DATA/<folder>``."""
        root = os.environ.get(DATA_VARIABLE)
        if not root:
            return {}
        paths = {split: Path(root) / self.folder / file for split, file in self.files.items()}
        return {split: path for split, path in paths.items() if path.is_file()}

    def remedy(self) -> str:
        """Return what to fetch, from where, and where to put it."""
        root = os.environ.get(DATA_VARIABLE)
        now = f"now {root!r}" if root else "not set now"
        return (
            f"putting {', '.join(self.files.values())} (UTF-8, columns {', '.join(self.columns)}; "
            f"label = 0 … {len(self.labels) - 1}) made from {self.where} into "
            f"${DATA_VARIABLE}/{self.folder} ({DATA_VARIABLE} is {now}), or giving data.source "
            f"the path of a folder that holds them. Licence as stated: {self.licence}"
        )


@cache
def catalogue() -> dict[str, Entry]:
    """Return every known data set by name."""
    text = Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text).items()
    return {name: Entry(**{"name": name, "folder": name} | values) for name, values in entries}

"""Where text comes from: a name, a folder, a file, the hub, or the grammar of moods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedkd.data.catalogue import DATA_VARIABLE, Entry, catalogue
from fedkd.data.generated import moods
from fedkd.data.tables import SUFFIXES, VECTORS, Columns, Table
from fedkd.data.vectors import LABELS, NAMES, read_vectors, vectors
from fedkd.errors import DataError, expected

Points = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Located:
    """A source that was found but not read: its files, or its id on the hub.

    ``entry`` is its place in the catalogue, where it has one.
    """

    name: str
    spec: str
    files: dict[str, Path] = field(default_factory=dict)
    hub: str | None = None
    revision: str | None = None
    entry: Entry | None = None

    def origin(self, path: Path) -> str:
        """Return what messages call one of the files."""
        return f"{self.entry.folder}/{path.name}" if self.entry else str(path)

    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Return (path, modified in ns, bytes) of every file, to notice that one changed."""
        paths = [path for path in self.files.values() if path.is_file()]
        paths += [side for path in paths[:1] for side in sorted(path.parent.glob("labels*.json"))]
        stats = [(str(path), path.stat()) for path in paths]
        return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)


@dataclass(frozen=True)
class Source:
    """What a source holds. ``labels`` are declared names in order; None: the rows tell.

    ``tables`` holds the splits that were read, ``splits`` the names of all that are there.
    """

    name: str
    tables: dict[str, Table]
    labels: tuple[str, ...] | None
    values: Points | None
    coordinates: Points | None
    warnings: tuple[str, ...]
    splits: tuple[str, ...]


def locate(source: str | Sequence[str] | dict[str, str]) -> tuple[Located, ...]:
    """Find every source named by ``data.source`` without reading it.

    Paths are relative to the current directory. A name of the catalogue comes before a path that
    is spelt the same; write ``./name`` for the path. Two sources with one name get numbers.
    Raises :class:`DataError`.
    """
    if isinstance(source, dict):
        paths = {split: Path(file) for split, file in source.items()}
        if "train" not in paths:
            raise DataError(
                expected("data.source", source, "name a train file", "train = 'train.csv'")
            )
        return (Located(paths["train"].resolve().parent.name, str(source), paths),)
    specs = (source,) if isinstance(source, str) else tuple(source)
    if not specs:
        raise DataError(expected("data.source", source, "name a source", "generated:moods"))
    found = [_locate_one(spec) for spec in specs]
    names = [one.name for one in found]
    return tuple(
        replace(one, name=f"{one.name}-{names[: i + 1].count(one.name)}")
        if names.count(one.name) > 1
        else one
        for i, one in enumerate(found)
    )


def read_source(located: Located, columns: Columns, wanted: Sequence[str], seed: int = 0) -> Source:
    """Read the splits of a source that are wanted and there; train must be.

    ``seed`` draws the generated sets of vectors anew; every other source is the same for any.

    Raises :class:`DataError` for what cannot be found or read.
    """
    if located.spec == "generated:moods":
        tables, labels, coordinates = moods(columns)
        return Source(located.name, tables, labels, None, coordinates, (), tuple(tables))
    if located.spec.startswith("generated:"):
        sets = vectors(located.name, columns, seed)
        return Source(located.name, sets, LABELS, None, None, (), tuple(sets))
    if located.hub is not None:
        return _read_hub(located, columns, wanted)
    read = {
        split: _read_file(path, located.origin(path), columns)
        for split, path in located.files.items()
        if split in wanted
    }
    tables = {split: table for split, (table, _) in read.items()}
    warnings = tuple(text for _, texts in read.values() for text in texts)
    names = _sidecar(located, columns, tables["train"])
    return _source(
        located,
        columns,
        tables=tables,
        labels=names,
        warnings=warnings,
        splits=tuple(located.files),
    )


def _read_file(path: Path, origin: str, columns: Columns) -> tuple[Table, tuple[str, ...]]:
    if path.suffix == VECTORS:
        return read_vectors(path, origin, columns)
    from fedkd.data.table_files import read_table  # noqa: PLC0415  # imports datasets

    return read_table(path, origin, columns)


def _locate_one(spec: str) -> Located:
    if spec.startswith("generated:"):
        name = spec.removeprefix("generated:")
        if name not in ("moods", *NAMES):
            known = ", ".join(f"generated:{one}" for one in ("moods", *NAMES))
            raise DataError(expected("data.source", spec, "be known", f"one of {known}"))
        return Located(name, spec)
    if spec.startswith("hub:"):
        name, _, revision = spec.removeprefix("hub:").partition("@")
        if not name or "@" in revision:
            raise DataError(expected("data.source", spec, "be a hub id", "hub:owner/name@revision"))
        return Located(name.rsplit("/")[-1], spec, hub=name, revision=revision or None)
    if spec in catalogue():
        return _locate_entry(catalogue()[spec])
    path = Path(spec)
    if path.is_file():
        _check_suffix(path)
        return Located(path.stem, spec, {"train": path})
    if path.is_dir():
        return Located(path.resolve().name, spec, _splits(path))
    raise DataError(
        expected(
            "data.source",
            spec,
            "be a file, a folder or a name of the catalogue",
            f"a path relative to the current directory, hub:owner/name, generated:moods, "
            f"or one of {', '.join(catalogue())}",
        )
    )


def _locate_entry(entry: Entry) -> Located:
    files = entry.local_files()
    if "train" in files:
        return Located(entry.name, entry.name, files, entry=entry)
    if entry.hub is None:
        raise DataError(
            expected("data.source", entry.name, "have its files at hand", entry.remedy())
        )
    return Located(entry.name, entry.name, hub=entry.hub, revision=entry.revision, entry=entry)


def _splits(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in SUFFIXES or not path.is_file():
            continue
        if path.stem in files:
            raise DataError(
                expected(
                    f"files of split {path.stem!r} in {folder}",
                    [files[path.stem].name, path.name],
                    "be one",
                    "removing one, or data.source = { train = '…', test = '…' }",
                )
            )
        files[path.stem] = path
    if "train" not in files:
        raise DataError(
            expected(
                "data.source",
                str(folder),
                "hold a train file",
                "train.csv, train.jsonl or train.parquet in it "
                f"(it holds {', '.join(sorted(p.name for p in folder.iterdir())) or 'nothing'})",
            )
        )
    return files


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise DataError(
            expected("data.source", str(path), f"end in {', '.join(SUFFIXES)}", "a csv file")
        )


def _sidecar(located: Located, columns: Columns, table: Table) -> tuple[str, ...] | None:
    """Return the names in labels_<column>.json or labels.json beside the train file."""
    if columns.label is None:
        return None
    folder = located.files["train"].parent
    path = folder / f"labels_{columns.label}.json"
    if not path.is_file():
        # labels.json belongs to the column `label`, so it says nothing of another one beside it.
        if columns.label != "label" and "label" in table.columns:
            return None
        path = folder / "labels.json"
    if not path.is_file():
        return None
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(expected("label file", str(path), "be JSON", "mending it")) from error
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise DataError(
            expected("label file", str(path), "list different names", '["negative", "positive"]')
        )
    return tuple(str(name) for name in names)


def _source(
    located: Located,
    columns: Columns,
    *,
    tables: dict[str, Table],
    labels: tuple[str, ...] | None,
    warnings: tuple[str, ...],
    splits: tuple[str, ...],
) -> Source:
    entry = located.entry
    if entry is None or columns.label not in ("label", entry.hub_label):
        return Source(located.name, tables, labels, None, None, warnings, splits)
    labels = labels or entry.labels
    return Source(located.name, tables, labels, entry.points, entry.coordinates, warnings, splits)


def _read_hub(located: Located, columns: Columns, wanted: Sequence[str]) -> Source:
    from fedkd.data.hub import HubId, read_hub  # noqa: PLC0415  # imports datasets

    entry = located.entry
    if entry is not None and columns.label == "label":
        columns = replace(columns, label=entry.hub_label)
    hub = HubId(located.spec, str(located.hub), located.revision)
    found = read_hub(hub, columns, wanted, None if entry is None else entry.remedy())
    warnings = found.warnings
    if entry is not None:
        warnings = (
            f"{entry.name} comes from the hub ({located.hub}), which may hold other rows than "
            f"${DATA_VARIABLE}/{entry.folder}",
            *warnings,
        )
    return _source(
        located,
        columns,
        tables=found.tables,
        labels=entry.labels if entry else found.labels,
        warnings=warnings,
        splits=found.splits,
    )

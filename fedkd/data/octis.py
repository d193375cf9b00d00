"""Folders in the layout of OCTIS (Terragni et al., EACL 2021): corpus.tsv and vocabulary.txt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.data.documents import SPLITS, Documents, index_labels
from fedkd.errors import DataError, expected

CORPUS, VOCABULARY = "corpus.tsv", "vocabulary.txt"


def is_octis(folder: Path) -> bool:
    """Return whether a folder holds corpus.tsv."""
    return (folder / CORPUS).is_file()


def read_octis(
    folder: Path, name: str, declared: Sequence[str] | None = None
) -> tuple[Documents, tuple[str, ...]]:
    """Return the documents of an OCTIS folder and its vocabulary in the file's order.

    ``corpus.tsv`` has no header: preprocessed words, and perhaps a partition (train, val, test) and
    a class, parted by tabs; documents without a partition are training documents. ``declared`` (or
    labels.json in the folder) are the class names that integers index. ``name`` is what messages
    call the folder. Raises :class:`DataError` naming the line.
    """
    vocabulary = _read_vocabulary(folder / VOCABULARY, f"{name}/{VOCABULARY}")
    origin = f"{name}/{CORPUS}"
    lines = _lines(folder / CORPUS, origin)
    rows = [line.split("\t") for line in lines]
    places = tuple((origin, number) for number in range(1, len(rows) + 1))
    splits = tuple(_split(row, number, origin) for number, row in enumerate(rows, start=1))
    values = [row[2].strip() if len(row) > 2 else "" for row in rows]
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    if any(values):
        labels, names = index_labels(values, declared or _declared(folder), places)
    tokens = tuple(tuple(row[0].split()) for row in rows)
    return Documents(tokens, splits, places, labels, names), vocabulary


def _read_vocabulary(file: Path, origin: str) -> tuple[str, ...]:
    if not file.is_file():
        raise DataError(
            expected("topic corpus", origin, "exist beside corpus.tsv", "one word a line in it")
        )
    words = tuple(word for word in (line.strip() for line in _lines(file, origin)) if word)
    if len(set(words)) != len(words):
        repeated = next(word for index, word in enumerate(words) if word in words[:index])
        raise DataError(
            expected(f"word in {origin}", repeated, "be there once", "removing the other")
        )
    return words


def _lines(file: Path, origin: str) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(expected("topic corpus", origin, "be UTF-8", "converting it")) from error
    # str.splitlines would also break lines at characters that a document may hold.
    lines = text.replace("\r\n", "\n").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if not lines:
        raise DataError(expected("topic corpus", origin, "hold lines", "a file that is not empty"))
    return lines


def _split(row: Sequence[str], number: int, origin: str) -> str:
    split = row[1].strip() if len(row) > 1 else "train"
    if split not in SPLITS:
        raise DataError(
            expected(
                f"partition in row {number} of {origin}", split, f"be one of {', '.join(SPLITS)}",
                "words TAB partition TAB class",
            )
        )  # fmt: skip
    return split


def _declared(folder: Path) -> tuple[str, ...] | None:
    file = folder / "labels.json"
    if not file.is_file():
        return None
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(expected("label file", file.name, "be JSON", "mending it")) from error
    return tuple(map(str, names))

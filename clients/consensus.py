"""What a party is told before a further question: which labels the parties agree on, row by row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ReleaseError, expected
from fedkd.files import write_array
from fedkd.subclass.question import unpack


def store_consensus(folder: Path, labels: int, fields: Mapping[str, int | float | str]) -> int:
    """Store a block of the consensus on the transfer rows; return its rows. Blocks may repeat."""
    block = unpack(str(fields["membership"]), labels)
    home = _home(folder, str(fields["name"]))
    write_array(home / f"{int(fields['start']):012d}.npy", block)
    return len(block)


def read_consensus(folder: Path, name: str) -> NDArray[np.float16]:
    """Return what has come for a question (rows, labels), in the order of the rows."""
    files = sorted(_home(folder, name).glob("*.npy"))
    return np.concatenate([np.load(file) for file in files] or [np.empty((0, 0), np.float16)])


def _home(folder: Path, name: str) -> Path:
    if not re.fullmatch(r"[a-z]+-[0-9a-f]{12}", name):
        raise ReleaseError(expected("name", name, "name a question", "the same version"))
    return folder / "consensus" / name

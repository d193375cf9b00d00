"""The public texts at a party: read from its own disk, or taken from the server in blocks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fedkd.errors import ReleaseError, expected
from fedkd.files import read_rows, write_rows
from fedkd.party_card import DELIVERED, PartyCard
from fedkd.release import fingerprint

PUBLIC_SETS = ("transfer", "test")


def public_texts(folder: Path, card: PartyCard, name: str) -> list[str]:
    """Return the texts of a public set, ``transfer`` or ``test``.

    Raises :class:`ReleaseError` where the party has no such set.
    """
    if name not in PUBLIC_SETS:
        raise ReleaseError(expected("set", name, f"be one of {PUBLIC_SETS}", "'transfer'"))
    path = (folder / card.public / f"{name}.jsonl").resolve()
    if not path.is_file():
        raise ReleaseError(
            expected("set", name, "be at this party", "data.transfer.delivery = 'server'")
        )
    return _texts(path, path.stat().st_mtime_ns)


def store_block(folder: Path, card: PartyCard, fields: Mapping[str, int | float | str]) -> int:
    """Store a block of public texts; return how many are there.

    The whole set counts once its fingerprint is right; blocks may come again or out of order.
    Raises :class:`ReleaseError` where this party reads the public texts from its own disk, or where
    the blocks do not make up the set.
    """
    name, rows = str(fields["set"]), int(fields["rows"])
    if card.public != DELIVERED or name not in PUBLIC_SETS:
        raise ReleaseError(
            expected("set", name, "be one that the server may send", "delivery = 'server'")
        )
    public = folder / DELIVERED
    start = int(fields["start"])
    texts: list[str] = json.loads(str(fields["texts"]))
    write_rows(public / name / f"{start:012d}.jsonl", {"text": texts})
    blocks = [read_rows(file)["text"] for file in sorted((public / name).glob("*.jsonl"))]
    known = [text for block in blocks for text in block]
    if len(known) >= rows:
        if fingerprint(known) != fields["transfer_id"]:
            shutil.rmtree(public / name)
            raise ReleaseError(
                expected("texts", name, "have the announced fingerprint", "sending them again")
            )
        write_rows(public / f"{name}.jsonl", {"text": known})
    return len(known)


@lru_cache(maxsize=8)
def _texts(path: Path, modified: int) -> list[str]:
    """Read public texts once a process, as long as the file stays what it was."""
    texts: list[str] = read_rows(path)["text"]
    return texts

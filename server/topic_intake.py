"""Checked answers of topic models, on disk: words told, summaries, and blocks of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.files import append_json, write_arrays
from fedkd.privacy.ledger import release_digest
from fedkd.release import Release
from fedkd.topics.asking import Arrays, load_arrays, read_words
from fedkd.topics.method import TopicQuestion
from fedkd.topics.release import Announced, check_summary, check_topics, check_words
from fedkd.topics.vocabulary import unpack_words
from server.intake import FRAMING, Record
from server.received import RECEIVED, Rows, cut


@dataclass(frozen=True)
class TopicAnswers:
    """One party's whole answer to a question, read from the intake."""

    mean: NDArray[np.float64]
    log_variance: NDArray[np.float64]
    words: NDArray[np.float32]
    mass: NDArray[np.float32]
    top_words: NDArray[np.int64]


@dataclass(frozen=True)
class Delivery:
    """What is awaited: its announced shape, the name it is kept under, and its ledger entry."""

    known: Announced
    place: str
    record: Record


@dataclass(frozen=True)
class TopicStore:
    """Stores what parties send; a file that is there was checked when it came."""

    folder: Path
    transfer_id: str
    label_id: str
    rows: int
    block_rows: int

    @property
    def blocks(self) -> tuple[Rows, ...]:
        """The slices that are asked for, in order."""
        return cut(self.rows, self.block_rows)

    def accept_words(self, party: str, release: Release, record: Record) -> None:
        """Check the words a party tells, ``record`` and store them.

        Raises :class:`~fedkd.errors.ReleaseError` with the reason.
        """
        check_words(release, self.transfer_id, self.label_id)
        self._write(party, "words", release, record)

    def told(self, party: str) -> dict[str, int] | None:
        """Return the words a party told with their counts, None before it did."""
        file = self.folder / party / "words.npz"
        if not file.is_file():
            return None
        arrays = load_arrays(file)
        names = unpack_words(arrays["words"])
        return dict(zip(names, map(int, arrays["frequencies"].tolist()), strict=True))

    def accept_summary(self, party: str, release: Release, due: Delivery) -> None:
        """Check, enter and store a summary; raises :class:`~fedkd.errors.ReleaseError`."""
        check_summary(release, due.known, self.rows)
        self._write(party, f"{due.place}-summary", release, due.record)

    def accept_rows(self, party: str, release: Release, due: Delivery, block: Rows) -> None:
        """Check, enter and store a block; raises :class:`~fedkd.errors.ReleaseError`."""
        check_topics(release, due.known, block)
        self._write(party, f"{due.place}-{block[0]:09d}", release, due.record)

    def missing(self, party: str, place: str) -> tuple[Rows, ...]:
        """Return the blocks that this party has not delivered yet."""
        home = self.folder / party
        return tuple(b for b in self.blocks if not (home / f"{place}-{b[0]:09d}.npz").is_file())

    def has_summary(self, party: str, place: str) -> bool:
        """Whether the summary is there."""
        return (self.folder / party / f"{place}-summary.npz").is_file()

    def block_bytes(self, known: Announced, rows: Rows) -> int:
        """Return the most bytes that an honest answer for these rows can take on the wire."""
        return (rows[1] - rows[0]) * known.row_bytes() + 2 * FRAMING

    def read(self, party: str, place: str) -> TopicAnswers:
        """Return a whole answer; word distributions (rows, words) are decoded."""
        home = self.folder / party
        summary = load_arrays(home / f"{place}-summary.npz")
        base = np.asarray(summary["background"], np.float32)
        parts = [load_arrays(home / f"{place}-{start:09d}.npz") for start, _ in self.blocks]
        return TopicAnswers(
            mean=_joined(parts, "mean"),
            log_variance=_joined(parts, "log_variance"),
            words=np.concatenate([read_words(part, base) for part in parts]),
            mass=np.asarray(summary["mass"], np.float32),
            top_words=np.asarray(summary["top_words"], np.int64),
        )

    def digest(self, parties: Sequence[str]) -> str:
        """Return the sha256 over the digests of everything accepted, in name order."""
        digest = hashlib.sha256()
        for party in sorted(parties):
            for file in self._files(party):
                digest.update(f"{party}/{file.name}\0".encode())
                arrays = load_arrays(file)
                digest.update(release_digest(_bare(arrays)).encode())
        return digest.hexdigest()

    def _files(self, party: str) -> Iterator[Path]:
        yield from sorted((self.folder / party).glob("*.npz"))

    def _write(self, party: str, name: str, release: Release, record: Record) -> None:
        record()
        write_arrays(self.folder / party / f"{name}.npz", dict(release.arrays))
        entry = {"name": name, "rows": list(release.rows), "sha256": release_digest(release)}
        append_json(self.folder / party / RECEIVED, entry)


def place_of(round_: int, question: TopicQuestion) -> str:
    """Return the name under which the answers of a round to a question lie."""
    return f"round-{round_}-{question.name}"


def _joined(parts: Sequence[Arrays], name: str) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(part[name], np.float64) for part in parts])


def _bare(arrays: Arrays) -> Release:
    empty = Release("statistic", {}, "", "", (0, 0))
    return replace(empty, arrays=arrays)

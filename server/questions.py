"""Further questions: subclasses, scores or embeddings, once the label probabilities are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from flwr.app import RecordDict

from fedkd.errors import ReleaseError, expected
from fedkd.intake import Intake
from fedkd.release import WIDEST_EMBEDDING, Release, check_release
from fedkd.run.wire import Scalar, content_release
from fedkd.subclass.question import Question, pack
from server.intake import FRAMING, WIDEST_VALUE, Receiver, Record, nothing
from server.protocol import ask_each, only_figures
from server.received import Received, Rows
from server.rounds import Request, Rounds, require_quorum


@dataclass(frozen=True)
class Gathering:
    """Stores the answers to one question beside the label probabilities of each party."""

    question: Question
    receiver: Receiver

    @cached_property
    def received(self) -> Received:
        """What has come so far."""
        log = f"received-{self.question.name}.jsonl"
        return Received(self.receiver.folder, self.receiver.blocks, log)

    def block_bytes(self, rows: Rows) -> int:
        """Return the most bytes that an honest answer for these rows can take on the wire."""
        labels = self.receiver.labels
        wide = WIDEST_EMBEDDING if self.question.kind == "embeddings" else 0
        values = labels + wide if wide else labels * self.question.columns
        return (rows[1] - rows[0]) * values * WIDEST_VALUE + FRAMING

    def missing(self, party: str) -> tuple[Rows, ...]:
        """Return the blocks that this party has not delivered yet, in order."""
        return self.received.missing(party)

    def accept(
        self,
        party: str,
        release: Release,
        rows: Rows,
        record: Record = nothing,
    ) -> None:
        """Check a block, ``record`` it and store it; raises :class:`ReleaseError`."""
        kind = self.question.kind
        check_release(
            release,
            kind=kind,
            transfer_id=self.receiver.transfer_id,
            label_id=self.receiver.label_id,
            rows=rows,
            labels=self.receiver.labels,
            subclasses=self.question.columns,
        )
        self.received.check_missing(party, rows)
        values = release.arrays[kind]
        path = self.receiver.folder / party / f"{self.question.name}.npy"
        if not path.is_file():
            _blank(path, (self.receiver.rows, *values.shape[1:]), values.dtype)
        stored = np.lib.format.open_memmap(path, mode="r+")
        if stored.shape[1:] != values.shape[1:] or stored.dtype != values.dtype:
            raise ReleaseError(
                expected(
                    f"{kind}: shape and dtype of a row", (values.shape[1:], values.dtype.name),
                    f"stay {(stored.shape[1:], stored.dtype.name)}", "one answer for all blocks",
                )
            )  # fmt: skip
        record()
        stored[rows[0] : rows[1]] = values
        stored.flush()
        self.received.add(party, rows, release)


def ask_further(
    rounds: Rounds, receiver: Receiver, questions: Sequence[Question], intake: Intake, quorum: int
) -> None:
    """Ask every party in the intake each different question, after telling it the consensus.

    Answers lie in the intake's folder under the question's name. Raises
    :class:`~fedkd.errors.QuorumError` where too few parties answer for a block; the same run asks
    only for what is missing.
    """
    for question in {question.name: question for question in questions}.values():
        gathering = Gathering(question, receiver)
        open_parties = [party for party in intake.parties if gathering.missing(party)]
        told = _tell(rounds, receiver, question, open_parties)
        for block in receiver.blocks:
            waiting = [party for party in told if block in gathering.missing(party)]
            title = f"{question.kind} for transfer rows {block[0]}–{block[1]}"
            requests = [_request(gathering, party, block) for party in waiting]
            ask_each(rounds, requests, _storing(rounds, gathering, block), title)
            there = sum(block not in gathering.missing(party) for party in intake.parties)
            require_quorum(title, there, quorum)
        for party in intake.parties:
            _fill_silent(gathering, party)


def _tell(
    rounds: Rounds, receiver: Receiver, question: Question, parties: Sequence[str]
) -> list[str]:
    """Send the consensus in blocks; return the parties that took all of it."""
    active = list(parties)
    for start, stop in receiver.blocks:
        fields: dict[str, Scalar] = {
            "name": question.name,
            "start": start,
            "membership": pack(question.membership[start:stop]),
        }
        requests = [
            Request(party, "query.agree", f"agree/{question.name}/{party}/{start}", fields)
            for party in active
        ]
        title = f"telling the consensus on rows {start}–{stop}"
        active = ask_each(rounds, requests, only_figures, title)
    return active


def _request(gathering: Gathering, party: str, block: Rows) -> Request:
    question = gathering.question
    fields: dict[str, Scalar] = {
        **question.split.fields(),
        "kind": question.kind,
        "name": question.name,
        "start": block[0],
        "stop": block[1],
        "transfer_id": gathering.receiver.transfer_id,
    }
    identifier = f"further/{question.name}/{party}/{block[0]}-{block[1]}"
    return Request(party, "query.further", identifier, fields, gathering.block_bytes(block))


def _storing(
    rounds: Rounds, gathering: Gathering, block: Rows
) -> Callable[[Request, RecordDict], None]:
    def accept(request: Request, content: RecordDict) -> None:
        release = content_release(content, request.identifier)
        gathering.accept(request.party, release, block, lambda: rounds.enter(request, content))

    return accept


def _fill_silent(gathering: Gathering, party: str) -> None:
    """Store an answer without any row for a party that gave none, so that readers find one."""
    receiver, question = gathering.receiver, gathering.question
    path = receiver.folder / party / f"{question.name}.npy"
    if not path.is_file():
        width = (1,) if question.kind == "embeddings" else (receiver.labels, question.columns)
        _blank(path, (receiver.rows, *width), np.dtype(np.float16))


def _blank(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
    array[:] = np.nan
    array.flush()
    partial.replace(path)

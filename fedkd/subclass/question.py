"""What a server asks of a teacher beyond label probabilities, and under which name."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ReleaseError, expected
from fedkd.subclass.split import Split

FurtherKind = Literal["subclasses", "scores", "embeddings", "grams"]
FURTHER: tuple[FurtherKind, ...] = ("subclasses", "scores", "embeddings", "grams")
Membership = NDArray[np.float16]


@dataclass(frozen=True)
class Question:
    """A kind of release, how rows are split, and how much each row belongs to each label.

    ``membership`` (rows, labels) float16 is the consensus of all teachers, which every party gets
    so that all split the same population.
    """

    kind: FurtherKind
    split: Split
    membership: Membership

    @property
    def name(self) -> str:
        """The kind and twelve hex digits of everything that the answer depends on."""
        return question_name(self.kind, self.split, self.membership)

    @property
    def columns(self) -> int:
        """Numbers that an answer holds for each row and label, see :func:`columns`."""
        return columns(self.kind, self.split, len(self.membership))


def columns(kind: str, split: Split, rows: int) -> int:
    """Return how many numbers an answer holds for each of ``rows`` rows and each label."""
    return min(split.landmarks, rows) if kind == "grams" else split.subclasses


def told(kind: str, split: Split, rows: int) -> str:
    """Return what the ledger says of an answer that was fitted on so many rows."""
    if kind == "subclasses" and split.splitter == "learned":
        return f"{split.subclasses} subclasses that the teacher learnt with its labels"
    what = f"{kind}, null projection {'on' if split.null_projection else 'off'}"
    match kind:
        case "embeddings":
            return what
        case "grams":
            return f"{what}, {rows} public rows beside {columns(kind, split, rows)} of them"
        case _:
            return f"{split.subclasses} {what}, fitted on {rows} public rows"


def question_name(kind: str, split: Split, membership: Membership) -> str:
    """Return the name under which both sides keep the answers to a question."""
    digest = hashlib.sha256(json.dumps(split.fields(), sort_keys=True).encode())
    digest.update(np.ascontiguousarray(membership, np.float16).tobytes())
    return f"{kind}-{digest.hexdigest()[:12]}"


def pack(membership: Membership) -> str:
    """Return a block of memberships (rows, labels) as text, for a request's plain scalars."""
    return base64.b64encode(np.ascontiguousarray(membership, np.float16).tobytes()).decode("ascii")


def unpack(text: str, labels: int) -> Membership:
    """Return the block that :func:`pack` wrote; raises :class:`ReleaseError` where it cannot be."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), np.float16)
        return values.reshape(-1, labels)
    except ValueError as error:
        raise ReleaseError(
            expected("membership", len(text), f"be rows of {labels} numbers", "the same version")
        ) from error

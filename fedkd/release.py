"""The release: the only value that leaves a party."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkd.coding import check_coded, is_coded
from fedkd.errors import ReleaseError, expected

ReleaseKind = Literal[
    "probabilities", "embeddings", "grams", "subclasses", "scores", "topics", "statistic", "masked"
]  # fmt: skip
Array = NDArray[np.generic]

SCHEMA = 1
WIDEST_EMBEDDING = 4096
SIMPLEX_TOLERANCE = {"float32": 1e-4, "float16": 4e-3}
_ARRAYS: dict[str, tuple[str, ...]] = {
    "probabilities": ("probs",),
    "statistic": ("bias",),
    "embeddings": ("embeddings", "probs"),
    "subclasses": ("subclasses",),
    "scores": ("scores",),
    "grams": ("grams",),
    "masked": ("masked",),
}


@dataclass(frozen=True)
class Release:
    """What a party returns for a slice of the transfer set.

    ``arrays`` have fixed names, dtypes and shapes per ``kind``: probabilities hold ``probs``
    (rows, labels), a statistic ``bias`` (labels,), subclasses ``subclasses`` (rows, labels,
    subclasses), all on the simplex; scores hold ``scores`` (rows, labels, subclasses), embeddings
    ``embeddings`` (rows, dim) with ``probs``, grams ``grams`` (rows, labels, landmarks). All are
    finite, float16 or float32; probabilities may be codes instead (:mod:`fedkd.coding`), uint8 and
    with ``top`` (rows, k) uint16, the labels that they belong to, where not all are sent. Masked
    ones hold ``masked`` (rows, labels + 1) uint32, which mean nothing before they are summed.
    ``transfer_id`` and ``label_id`` are fingerprints of the ordered transfer rows and of the label
    list; ``rows`` is the half-open slice answered; ``mechanism`` says what was done to the values
    before they left and ``epsilon_spent`` what that guarantees (None: nothing); ``account`` is the
    cost in full, as :class:`fedkd.privacy.ledger.Account` writes it; the party's gate fills it in.
    """

    kind: ReleaseKind
    arrays: Mapping[str, Array]
    transfer_id: str
    label_id: str
    rows: tuple[int, int]
    mechanism: str = "none"
    epsilon_spent: float | None = None
    schema: int = SCHEMA
    account: Mapping[str, Any] = field(default_factory=dict)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the arrays alone, without names and framing."""
        return sum(array.nbytes for array in self.arrays.values())


def fingerprint(items: Iterable[str]) -> str:
    """Return the sha256 of an ordered list of strings, each preceded by its length."""
    digest = hashlib.sha256()
    for item in items:
        data = item.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def check_release(
    release: Release,
    *,
    kind: ReleaseKind,
    transfer_id: str,
    label_id: str,
    rows: tuple[int, int],
    labels: int,
    subclasses: int = 0,
) -> None:
    """Raise :class:`ReleaseError` unless the release is what was asked for.

    Checked in this order: schema, kind, fingerprints, rows, array names, dtype, shape, finite,
    non-negative, on the simplex within the tolerance of its dtype.
    """
    facts = (
        ("schema", release.schema, SCHEMA, "the same fedkd version on both sides"),
        ("kind", release.kind, kind, "answering the request as asked"),
        ("transfer_id", release.transfer_id, transfer_id, "the server's own transfer set"),
        ("label_id", release.label_id, label_id, "the server's own label list, in its order"),
        ("rows", tuple(release.rows), tuple(rows), "the rows asked for"),
        ("arrays", _names(release), _ARRAYS.get(kind, ()), "the named arrays only"),
    )
    for name, got, want, remedy in facts:
        if got != want:
            raise ReleaseError(expected(name, got, f"equal {want!r}", remedy))
    count = rows[1] - rows[0]
    fine = (count, labels, subclasses)
    if kind == "probabilities" and is_coded(release.arrays):
        check_coded(release.arrays, count, labels)
        return
    for name, array in release.arrays.items():
        match name:
            case "probs":
                _check_simplex(name, array, (count, labels))
            case "bias":
                _check_simplex(name, array, (labels,))
            case "subclasses":
                _check_simplex(name, array, fine)
            case "scores" | "grams":
                _check_finite(name, array, fine)
            case "masked":
                _check_masked(name, array, (count, labels + 1))
            case _:
                width = array.shape[1] if array.ndim == 2 else 0
                _check_finite(name, array, (count, min(max(width, 1), WIDEST_EMBEDDING)))


def _names(release: Release) -> tuple[str, ...]:
    """Return the names of the arrays, less the labels that go with codes of probabilities."""
    extra = {"top"} if release.kind == "probabilities" and "probs" in release.arrays else set()
    return tuple(sorted(set(release.arrays) - extra))


def _check_simplex(name: str, array: Array, shape: tuple[int, ...]) -> None:
    values = _check_finite(name, array, shape)
    off = float(np.abs(values.sum(axis=-1) - 1).max()) if values.size else 0.0
    low = float(values.min()) if values.size else 0.0
    if low < 0 or off > SIMPLEX_TOLERANCE[array.dtype.name]:
        raise ReleaseError(
            expected(
                f"{name}: smallest value and largest |sum - 1|",
                (low, off),
                f"lie on the simplex within {SIMPLEX_TOLERANCE[array.dtype.name]}",
                "a softmax",
            )
        )


def _check_masked(name: str, array: Array, shape: tuple[int, int]) -> None:
    if array.dtype.name != "uint32" or array.shape != shape:
        got = (array.dtype.name, array.shape)
        raise ReleaseError(expected(name, got, f"be uint32 of shape {shape}", "that shape"))


def _check_finite(name: str, array: Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if array.dtype.name not in SIMPLEX_TOLERANCE:
        raise ReleaseError(
            expected(f"{name}.dtype", array.dtype.name, "be float16 or float32", "one of these")
        )
    if array.shape != shape:
        raise ReleaseError(expected(f"{name}.shape", array.shape, f"equal {shape}", "that shape"))
    values = np.asarray(array, dtype=np.float64)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ReleaseError(
            expected(f"{name}: count of non-finite values", bad, "equal 0", "another teacher")
        )
    return values

"""What a party with a topic model may send, and the check of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedkd.errors import ReleaseError, expected
from fedkd.release import SCHEMA, Array, Release, ReleaseKind
from fedkd.topics.vocabulary import unpack_words

TOP = 10
OFF = 2e-2  # a sum of thousands of float16 is off by as much
WORDS_TOLD = {"words", "frequencies"}


@dataclass(frozen=True)
class Announced:
    """What the server knows before a release comes: fingerprints, sizes and the form of words."""

    transfer_id: str
    label_id: str
    words: int
    topics: int
    keep: int | None

    def row_bytes(self) -> int:
        """Return the most bytes of one document's answer."""
        wide = 2 * self.words if self.keep is None else 3 * min(self.keep, self.words) + 2
        return 4 * self.topics + wide


def check_words(release: Release, transfer_id: str, label_id: str) -> dict[str, int]:
    """Return the words a party tells with their document counts.

    Raises :class:`ReleaseError` unless they are different words, each with a count of at least 1.
    """
    _facts(release, "statistic", transfer_id, label_id, rows=(0, 0), names=WORDS_TOLD)
    packed, counts = release.arrays["words"], release.arrays["frequencies"]
    _shape("frequencies", counts, "uint32", (len(counts),))
    _shape("words", packed, "uint8", (packed.size,))
    try:
        names = unpack_words(packed)
    except UnicodeDecodeError as error:
        raise ReleaseError(expected("words", "bytes", "be UTF-8", "the same version")) from error
    plain = all(name and name.split() == [name] for name in names)
    if len(names) != len(counts) or len(set(names)) != len(names) or not plain:
        raise ReleaseError(
            expected("words", len(names), f"be {len(counts)} different ones", "one count a word")
        )
    if len(counts) and int(counts.min()) < 1:
        raise ReleaseError(expected("smallest count", int(counts.min()), "be >= 1", "leaving it"))
    return dict(zip(names, counts.tolist(), strict=True))


def check_summary(release: Release, known: Announced, rows: int) -> None:
    """Check the party's mean word distribution and its topics' top words.

    ``background`` (words,) float32 on the simplex, ``top_words`` (topics, 10) uint16 below the
    vocabulary's size, ``mass`` (topics,) float32 on the simplex.
    """
    names = {"background", "top_words", "mass"}
    _facts(release, "statistic", known.transfer_id, known.label_id, rows=(0, rows), names=names)
    _shape("background", release.arrays["background"], "float32", (known.words,))
    _shape("mass", release.arrays["mass"], "float32", (known.topics,))
    _shape("top_words", release.arrays["top_words"], "uint16", (known.topics, TOP))
    for name in ("background", "mass"):
        _simplex(name, release.arrays[name])
    most = int(release.arrays["top_words"].max())
    if most >= known.words:
        raise ReleaseError(expected("top_words", most, f"be below {known.words}", "word numbers"))


def check_topics(release: Release, known: Announced, rows: tuple[int, int]) -> None:
    """Check a block of latents and word distributions.

    ``mean`` and ``log_variance`` (rows, topics) float16; ``words`` (rows, words) float16 on the
    simplex, or ``ids`` uint16 and ``codes`` uint8 (rows, keep) with ``range`` (rows,) float16 > 0.
    """
    dense = known.keep is None
    forms = {"words"} if dense else {"ids", "codes", "range"}
    names = {"mean", "log_variance"} | forms
    _facts(release, "topics", known.transfer_id, known.label_id, rows=rows, names=names)
    arrays, count = release.arrays, rows[1] - rows[0]
    for name in ("mean", "log_variance"):
        _shape(name, arrays[name], "float16", (count, known.topics))
    if dense:
        _shape("words", arrays["words"], "float16", (count, known.words))
        _simplex("words", arrays["words"])
        return
    keep = min(known.keep or 0, known.words)
    _shape("ids", arrays["ids"], "uint16", (count, keep))
    _shape("codes", arrays["codes"], "uint8", (count, keep))
    _shape("range", arrays["range"], "float16", (count,))
    ids = np.asarray(arrays["ids"], np.int64)
    rising = bool((np.diff(ids, axis=1) > 0).all()) and int(ids.max()) < known.words
    if not rising or float(np.asarray(arrays["range"], np.float64).min()) <= 0:
        raise ReleaseError(
            expected("ids, range", "values", f"rise below {known.words}, be > 0", "encode_top")
        )


def _facts(
    release: Release,
    kind: ReleaseKind,
    transfer_id: str,
    label_id: str,
    *,
    rows: tuple[int, int],
    names: set[str],
) -> None:
    for name, got, want, remedy in (
        ("schema", release.schema, SCHEMA, "the same fedkd version on both sides"),
        ("kind", release.kind, kind, "answering the request as asked"),
        ("transfer_id", release.transfer_id, transfer_id, "the server's own public documents"),
        ("label_id", release.label_id, label_id, "the agreed vocabulary"),
        ("rows", tuple(release.rows), rows, "the rows asked for"),
        ("arrays", sorted(release.arrays), sorted(names), "the named arrays only"),
    ):
        if got != want:
            raise ReleaseError(expected(name, got, f"equal {want!r}", remedy))


def _shape(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> None:
    if (array.dtype.name, array.shape) != (dtype, shape):
        got = (array.dtype.name, array.shape)
        raise ReleaseError(expected(name, got, f"be {dtype} {shape}", "that dtype and shape"))
    if array.dtype.kind == "f" and not np.isfinite(np.asarray(array, np.float64)).all():
        raise ReleaseError(expected(name, "non-finite values", "be finite", "another teacher"))


def _simplex(name: str, array: Array) -> None:
    values = np.asarray(array, np.float64)
    off = float(np.abs(values.sum(axis=-1) - 1).max()) if values.size else 0.0
    if values.size and (float(values.min()) < 0 or off > OFF):
        raise ReleaseError(expected(name, off, f"lie on the simplex within {OFF}", "a softmax"))

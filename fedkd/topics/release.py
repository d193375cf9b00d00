"""What a party with a topic model may send, and the check of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from unicodedata import category

import numpy as np

from fedkd.errors import ReleaseError, expected
from fedkd.release import SCHEMA, Array, Release, ReleaseKind
from fedkd.topics.vocabulary import unpack_words

TOP = 10
OFF = 2e-2  # a sum of thousands of float16 is off by as much
WORDS_TOLD = {"words", "frequencies"}
MOST_LETTERS = 1_000
MOST_TOPICS = 2_000
# What an honest party sends stays below both: they keep exp() of a hostile one finite.
MOST_LOG_VARIANCE, MOST_RANGE = 30.0, 100.0
TRAINED = ("rows", "topics", "words", "empty")


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
    _shape("frequencies", counts, "uint32", (counts.size,))
    _shape("words", packed, "uint8", (packed.size,))
    try:
        names = unpack_words(packed)
    except UnicodeDecodeError as error:
        raise ReleaseError(expected("words", "bytes", "be UTF-8", "the same version")) from error
    if len(names) != len(counts) or len(set(names)) != len(names):
        raise ReleaseError(
            expected("words", len(names), f"be {len(counts)} different ones", "one count a word")
        )
    spoilt = sum(not _plain(name) for name in names)
    if spoilt:
        raise ReleaseError(
            expected("words with blanks or control characters, empty or too long", spoilt, "be 0",
                     f"words of 1 to {MOST_LETTERS} letters")
        )  # fmt: skip
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
    first = np.sort(np.asarray(release.arrays["top_words"], np.int64), axis=1)
    if (np.diff(first, axis=1) == 0).any():
        raise ReleaseError(expected("top_words", "a word twice", "differ in a topic", "ranking it"))


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
    _within("log_variance", arrays["log_variance"], MOST_LOG_VARIANCE)
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
    _within("range", arrays["range"], MOST_RANGE)


def check_trained(figures: Mapping[str, float], words: int) -> None:
    """Check what a party says of the model it trained on so many agreed words.

    Raises :class:`ReleaseError` unless the figures are finite, its counts are whole, and its topics
    are between 2 and the words, at most 2,000: the answers awaited of it are as large as that.
    """
    _finite(figures)
    for name in TRAINED:
        value = figures.get(name)
        if value is None or value != int(value) or value < 0:
            raise ReleaseError(expected(name, value, "be a whole number", "the same version"))
    topics, most = int(figures["topics"]), min(words, MOST_TOPICS)
    if not 2 <= topics <= most:
        raise ReleaseError(expected("topics", topics, f"lie in 2..{most}", "fewer topics"))


def check_measured(figures: Mapping[str, float]) -> None:
    """Check what a party says of its model on held-out documents and of its answer's error.

    Raises :class:`ReleaseError` unless the figures are finite, and every log-likelihood is at most
    0 and comes with the words that it is of, at a perplexity that is a number.
    """
    _finite(figures)
    for prefix in ("", "own_"):
        total, words = figures.get(f"{prefix}log_likelihood"), figures.get(f"{prefix}words")
        if total is None and words is None:
            continue
        if total is None or words is None or words < 0 or not -MOST_RANGE * words <= total <= 0:
            raise ReleaseError(
                expected(f"{prefix}log_likelihood, {prefix}words", (total, words),
                         f"be at most 0 and at least -{MOST_RANGE:g} a word", "measuring again")
            )  # fmt: skip


def _plain(word: str) -> bool:
    blank = word.split() != [word]
    return not blank and len(word) <= MOST_LETTERS and all(category(c) != "Cc" for c in word)


def _finite(figures: Mapping[str, float]) -> None:
    odd = sorted(name for name, value in figures.items() if not math.isfinite(value))
    if odd:
        raise ReleaseError(expected("figures", odd, "be finite", "training again"))


def _within(name: str, array: Array, most: float) -> None:
    largest = float(np.abs(np.asarray(array, np.float64)).max())
    if largest > most:
        raise ReleaseError(expected(f"largest {name}", largest, f"be at most {most:g}", "clipping"))


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

"""How often words meet in a window that slides over documents, counted once for a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fedkd.errors import DataError, expected

Compat = Literal["gensim", "exact"]
Places = NDArray[np.int64]
Counts = NDArray[np.uint32]


@dataclass(frozen=True)
class Cooccurrence:
    """Windows of a corpus that hold words together.

    ``counts`` (V, V) uint32, symmetric: windows with both words; on the diagonal, windows with the
    word. ``windows`` is how many there are, ``window`` their length in words, ``compat`` which
    windows a word is held to be in.
    """

    counts: NDArray[np.uint32]
    windows: int
    window: int
    compat: Compat


def count_windows(
    texts: Sequence[str], vocabulary: Sequence[str], window: int, compat: Compat = "gensim"
) -> Cooccurrence:
    """Slide a window of so many words over every text, word by word, and count who meets whom.

    Texts are words parted by blanks; words outside the vocabulary take up room in a window and
    count for nothing. A text shorter than the window, an empty one too, is one window.

    ``compat="exact"``: a word is in a window as long as one of its occurrences is. ``"gensim"``:
    as gensim's ``WordOccurrenceAccumulator`` has it, a word leaves with its first occurrence, even
    where a later one is still inside, and is back when a further one enters; published NPMI and
    C_V figures contain this. A word's stay is counted when it ends, so a step costs as many
    additions as the window has words, not as many as it has pairs.

    Raises :class:`DataError` for a window below 2 or a corpus without texts.
    """
    if window < 2:
        raise DataError(expected("window", window, "be at least 2 words", "window = 10"))
    if not texts:
        raise DataError(expected("texts", 0, "hold at least 1 document", "a larger corpus"))
    place = {word: index for index, word in enumerate(vocabulary)}
    rows = [text.split() for text in texts]
    start = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=start[1:])
    words = (place.get(word, -1) for word in chain.from_iterable(rows))
    ids = np.fromiter(words, np.int32, int(start[-1]))
    half = np.zeros((len(place), len(place)), np.uint32)
    windows = _slide(ids, start, window, compat == "exact", half)
    counts = half + half.T
    np.fill_diagonal(counts, half.diagonal())
    return Cooccurrence(counts, int(windows), window, compat)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any]
    try:
        compiled = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder to keep the machine code in
        compiled = njit(nogil=True)(function)
    return compiled


@_compile
def _enter(
    word: int, step: int, size: int, since: Places, slot: Places, present: Places
) -> int:  # fmt: skip
    """Begin a word's stay unless it is present; return how many words are."""
    if slot[word] >= 0:
        return size
    since[word], slot[word], present[size] = step, size, word
    return size + 1


@_compile
def _leave(
    word: int, step: int, size: int, since: Places, slot: Places, present: Places, half: Counts
) -> int:
    """End a word's stay, counting it alone and with all who are left; return how many are."""
    size -= 1
    last = present[size]
    present[slot[word]], slot[last] = last, slot[word]
    slot[word] = -1
    half[word, word] += step - since[word]
    for other in present[:size]:
        half[word, other] += step - max(since[word], since[other])
    return size


@_compile
def _slide(ids: NDArray[np.int32], start: Places, window: int, exact: bool, half: Counts) -> int:
    """Fill ``half`` with stays together, in either order of a pair; return the windows seen."""
    since = np.zeros(len(half), np.int64)
    inside = np.zeros(len(half), np.int64)
    slot = np.full(len(half), -1, np.int64)
    present = np.empty(len(half), np.int64)
    windows = 0
    for document in range(len(start) - 1):
        text = ids[start[document] : start[document + 1]]
        steps = max(len(text) - window + 1, 1)
        windows += steps
        size = 0
        for word in text[:window]:
            if word >= 0:
                inside[word] += 1
                size = _enter(word, 0, size, since, slot, present)
        for step in range(1, steps):
            out, into = text[step - 1], text[step + window - 1]
            if out >= 0:
                inside[out] -= 1
                if slot[out] >= 0 and not (exact and inside[out] > 0):
                    size = _leave(out, step, size, since, slot, present, half)
            if into >= 0:
                inside[into] += 1
                size = _enter(into, step, size, since, slot, present)
        while size > 0:
            size = _leave(present[size - 1], steps, size, since, slot, present, half)
        for word in text:
            if word >= 0:
                inside[word] = 0
    return windows

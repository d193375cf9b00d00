"""Agreeing on a vocabulary: what parties tell of their words, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fedkd.errors import DataError, expected
from fedkd.privacy.accountant import Event
from fedkd.privacy.mechanisms import laplace_threshold
from fedkd.privacy.noise import Stream
from fedkd.release import fingerprint

Agreement = Literal["threshold", "union", "public"]
SEPARATOR = b"\n"


@dataclass(frozen=True)
class Vocabulary:
    """The agreed words in lexicographic order; ``id`` is their sha256."""

    words: tuple[str, ...]

    @property
    def id(self) -> str:
        """Fingerprint that every later release carries."""
        return fingerprint(self.words)

    def bags(self, texts: Sequence[str]) -> csr_array:
        """Return counts (documents, words) float32 with sorted columns; other words are left out.

        A text is its words with blanks between them.
        """
        place = {word: column for column, word in enumerate(self.words)}
        counts = [Counter(place[w] for w in text.split() if w in place) for text in texts]
        pointers = np.concatenate([[0], np.cumsum([len(c) for c in counts])]).astype(np.int64)
        columns = [sorted(c) for c in counts]
        indices = np.array([i for row in columns for i in row], np.int32)
        pairs = zip(counts, columns, strict=True)
        data = np.array([c[i] for c, row in pairs for i in row], np.float32)
        return csr_array((data, indices, pointers), shape=(len(texts), len(self.words)))


@dataclass(frozen=True)
class WordNoise:
    """What a list of words may cost: at most ``epsilon`` and ``delta`` for one document.

    A document counts for its first ``cap`` different words, whatever the others hold.
    """

    epsilon: float
    delta: float
    cap: int

    @property
    def threshold(self) -> float:
        """The least noisy count with which a word leaves."""
        return laplace_threshold.threshold(self.epsilon, self.delta, self.cap)

    @property
    def event(self) -> Event:
        """What one list costs."""
        return laplace_threshold.event(self.epsilon, self.delta)


def document_frequencies(texts: Sequence[str], cap: int | None = None) -> Counter[str]:
    """Return in how many texts each word occurs; a text counts for its first ``cap`` words."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(list(dict.fromkeys(text.split()))[:cap])
    return found


def tell_words(
    texts: Sequence[str],
    *,
    least: int,
    noise: tuple[WordNoise, Stream] | None = None,
) -> dict[str, int]:
    """Return the words that may leave a party with the number of its documents that hold them.

    A word leaves when at least ``least`` documents hold it. With ``noise`` (what it may cost, and
    where it is drawn from) every count is a noisy one, rounded, and a word leaves whose count
    reaches the threshold too: words and counts together then are (ε, δ)-differentially private for
    one document. One document changes at most ``cap`` counts by 1, so Laplace noise of scale cap/ε
    hides it in the words that others hold; each of the at most ``cap`` words that it alone holds
    passes 1 + (cap/ε) ln(cap / 2δ) with probability ½ exp(−ln(cap / 2δ)) = δ/cap, so that any of
    them leaves with at most δ (Korolova et al., WWW 2009; Gopi et al., ICML 2020).
    """
    counts = document_frequencies(texts, None if noise is None else noise[0].cap)
    names, floor = sorted(counts), float(max(least, 1))
    values = np.array([counts[name] for name in names], np.float64)
    if noise is not None:
        asked, stream = noise
        values = laplace_threshold.noised(values, asked.epsilon, asked.cap, stream)
        floor = max(floor, asked.threshold)
    return {name: round(v) for name, v in zip(names, values.tolist(), strict=True) if v >= floor}


def agree(
    told: Sequence[Mapping[str, int]],
    public: Sequence[str],
    *,
    documents: int,
    how: Agreement = "threshold",
    least: int = 5,
    most: float = 1.0,
    size: int | None = None,
) -> Vocabulary:
    """Return the vocabulary from what parties told and the public texts.

    ``threshold`` keeps a word held by at least ``least`` and at most the share ``most`` of all
    ``documents`` (the parties' and the public ones), the ``size`` commonest of them; ``union``
    keeps every word told or public; ``public`` the public words held by ``least`` public texts.
    Raises :class:`DataError` where fewer than two words are left.
    """
    own = document_frequencies(public)
    if how == "public":
        kept = {word for word, count in own.items() if count >= least}
    else:
        total: Counter[str] = Counter(own)
        for one in told:
            total.update(one)
        kept = set(total)
        if how == "threshold":
            kept = {w for w, count in total.items() if least <= count <= most * documents}
            ranked = sorted(kept, key=lambda word: (-total[word], word))
            kept = set(ranked[:size])
    if len(kept) < 2:
        raise DataError(
            expected(
                "agreed words", len(kept), "be at least 2", "a smaller topics.vocabulary.least"
            )
        )
    return Vocabulary(tuple(sorted(kept)))


def pack_words(words: Sequence[str]) -> NDArray[np.uint8]:
    """Return words as bytes for a release."""
    return np.frombuffer(SEPARATOR.join(w.encode() for w in words), np.uint8)


def unpack_words(packed: NDArray[np.generic]) -> list[str]:
    """Return the words of :func:`pack_words`; raises UnicodeDecodeError for other bytes."""
    data = np.asarray(packed, np.uint8).tobytes()
    return [word.decode() for word in data.split(SEPARATOR)] if data else []

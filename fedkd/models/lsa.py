"""Latent semantic analysis: fitted on public texts, and kept in a folder without a pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from fedkd.errors import ModelError, expected
from fedkd.files import write_text

NUMBERS, WORDS = "encoder.safetensors", "encoder-words.txt"


@dataclass(frozen=True)
class Lsa:
    """TF-IDF with 1 + log counts, then a projection (Deerwester et al., JASIS 1990).

    ``words`` in the order of the columns, ``idf`` (words,) float64, ``components`` (dim, words).
    """

    words: tuple[str, ...]
    idf: NDArray[np.float64]
    components: NDArray[np.floating]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return (texts, dim) float64, not of unit length; zero for a text without a known word."""
        weigh = _weights(self.words)
        weigh.idf_ = self.idf
        found: NDArray[np.float64] = weigh.transform(texts) @ self.components.T
        return found

    def save(self, folder: Path) -> None:
        """Write it beside a model; the components as float32, which float16 vectors outlive."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers = {"idf": self.idf, "components": self.components.astype(np.float32)}
        save_file({k: np.ascontiguousarray(v) for k, v in numbers.items()}, folder / NUMBERS)
        write_text(folder / WORDS, "".join(f"{word}\n" for word in self.words))


def fit_lsa(texts: Sequence[str], dim: int) -> Lsa:
    """Return the analysis of texts, words with blanks between them; the SVD's seed is fixed.

    Raises :class:`ModelError` for texts without words, or fewer words or texts than ``dim``.
    """
    weigh = _weights(None)
    try:
        weighted = weigh.fit_transform(texts)
    except ValueError as error:
        raise ModelError(
            expected("texts to fit on", len(texts), "hold words", "texts that are not empty")
        ) from error
    most = min(weighted.shape)
    if not 1 <= dim < most:
        raise ModelError(
            expected(
                "dimension of lsa", dim,
                f"be at least 1 and below the number of words and of documents to fit on, {most}",
                f"encoder = 'lsa:{max(1, min(100, most - 1))}'",
            )
        )  # fmt: skip
    svd = TruncatedSVD(dim, n_iter=5, random_state=0).fit(weighted)
    words = tuple(map(str, weigh.get_feature_names_out()))
    return Lsa(words, np.asarray(weigh.idf_, np.float64), np.asarray(svd.components_))


def load_lsa(folder: Path) -> Lsa:
    """Return what :meth:`Lsa.save` wrote; raises :class:`ModelError` where it is not whole."""
    try:
        numbers = load_file(folder / NUMBERS)
        words = tuple((folder / WORDS).read_text(encoding="utf-8").splitlines())
        idf, components = numbers["idf"], numbers["components"]
        if not idf.shape == (len(words),) == components.shape[1:]:
            raise ValueError(f"{len(words)} words, {idf.shape}, {components.shape}")
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise ModelError(
            expected(
                NUMBERS, str(folder), f"hold the fitted encoder ({error})",
                "making the student anew with fedkd run --fresh",
            )
        ) from error  # fmt: skip
    return Lsa(words, idf, components)


def _weights(words: Sequence[str] | None) -> TfidfVectorizer:
    # Texts are words parted by blanks, so every run of other characters is a word.
    return TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True, vocabulary=words)

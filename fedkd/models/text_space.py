"""The space that a saved topic model reads texts in: all that it takes to read another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkd.errors import ModelError, expected
from fedkd.models.encoder import load_sentence_encoder
from fedkd.models.lsa import Lsa, fit_lsa, load_lsa
from fedkd.models.text_vectors import MAX_TOKENS, Vectors, lsa_width, unit

IDENTITY = "encoder_identity"


@dataclass(frozen=True)
class TextSpace:
    """An encoder by name, with the analysis where it is one that was fitted.

    ``identity`` hashes a sentence encoder's weights; None where that was not known.
    """

    encoder: str
    lsa: Lsa | None = None
    identity: str | None = None

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors (texts, dim) float16, as :func:`~fedkd.models.text_vectors` does.

        Raises :class:`ModelError` for a sentence encoder that is missing, or is another one.
        """
        if self.lsa is not None:
            return unit(self.lsa.vectors(texts))
        loaded = load_sentence_encoder(self.encoder, MAX_TOKENS)
        if self.identity not in (None, loaded.identity):
            raise ModelError(
                expected(
                    "encoder", self.encoder, "be the one that the model was trained with",
                    "a copy of that encoder in the model's folder, named encoder",
                )
            )  # fmt: skip
        return unit(loaded.encode(texts))

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what was fitted into the model's folder; return what its card must say."""
        if self.lsa is not None:
            self.lsa.save(folder)
        return {} if self.identity is None else {IDENTITY: self.identity}


def fit_space(encoder: str, public: Sequence[str]) -> TextSpace:
    """Return the space that :func:`~fedkd.models.text_vectors.text_vectors` fits on public texts.

    Raises :class:`ModelError` for an analysis that cannot be fitted.
    """
    dim = lsa_width(encoder)
    if dim is not None:
        return TextSpace(encoder, fit_lsa(public, dim))
    try:
        return TextSpace(encoder, identity=load_sentence_encoder(encoder, MAX_TOKENS).identity)
    except ModelError:
        # The texts' vectors can lie ready where the encoder is no longer.
        return TextSpace(encoder)


def load_space(folder: Path, encoder: str, card: dict[str, Any]) -> TextSpace:
    """Return what :meth:`TextSpace.save` wrote; a sentence encoder may lie in ``encoder/`` too."""
    if lsa_width(encoder) is not None:
        return TextSpace(encoder, load_lsa(folder))
    beside = folder / "encoder"
    return TextSpace(str(beside) if beside.is_dir() else encoder, identity=card.get(IDENTITY))

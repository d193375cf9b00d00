"""One vector a document, computed once: from a sentence encoder, or by latent semantic analysis."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ModelError, expected
from fedkd.files import write_array
from fedkd.release import fingerprint

Vectors = NDArray[np.float16]
MAX_TOKENS = 256
_LSA = re.compile(r"lsa:(\d+)")
_LSA_VERSION = "lsa/1"


def text_vectors(
    texts: Sequence[str], encoder: str, cache: Path, fit_texts: Sequence[str] | None = None
) -> Vectors:
    """Return unit vectors (documents, dim) float16 of texts, in their order, memory-mapped.

    ``encoder`` is ``lsa:<dim>``, or a sentence encoder by hub name or local folder, of which the
    last hidden states are averaged over the first 256 tokens. Latent semantic analysis (Deerwester
    et al., JASIS 1990) needs no download: TF-IDF with 1 + log counts and a truncated SVD of fixed
    seed, fitted on ``fit_texts`` (default: the texts), so parties that fit on the same public texts
    share one space. A text without a known word is the zero vector.

    The file in ``cache`` is named by a hash of texts and model, so it is computed only once.
    Raises :class:`ModelError` for no texts, an encoder that cannot be loaded, or fewer words or
    documents to fit on than ``dim``.
    """
    if not texts:
        raise ModelError(expected("texts", 0, "hold at least 1 document", "a larger corpus"))
    dim = lsa_width(encoder)
    if dim is not None:
        fit = texts if fit_texts is None else fit_texts
        identity = f"{_LSA_VERSION}/{dim}/{fingerprint(fit)}"
        # Where vectors lie ready, as in most messages to a party, nobody waits for these imports.
        from fedkd.models.lsa import fit_lsa  # noqa: PLC0415

        return _cached(identity, texts, cache, lambda: fit_lsa(fit, dim).vectors(texts))
    from fedkd.models.encoder import load_sentence_encoder  # noqa: PLC0415

    loaded = load_sentence_encoder(encoder, MAX_TOKENS)
    identity = f"unit/{loaded.identity}"
    return _cached(identity, texts, cache, lambda: loaded.encode(texts))


def lsa_width(encoder: str) -> int | None:
    """Return the width of ``lsa:<width>``, None for a sentence encoder."""
    match = _LSA.fullmatch(encoder)
    if match is None and encoder.startswith("lsa"):
        raise ModelError(expected("encoder", encoder, "name its dimension", "encoder = 'lsa:384'"))
    return int(match[1]) if match else None


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Return the rows at length 1, as float16; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float16)


def encoder_parameters(encoder: str, fit_texts: Sequence[str]) -> int:
    """Return how many numbers an encoder of :func:`text_vectors` holds.

    Of latent semantic analysis: a weight and a row of the projection for each word fitted on.
    """
    dim = lsa_width(encoder)
    if dim is not None:
        return (dim + 1) * len({word for text in fit_texts for word in text.split()})
    from fedkd.models.encoder import load_sentence_encoder  # noqa: PLC0415

    body = load_sentence_encoder(encoder, MAX_TOKENS).body
    return sum(values.numel() for values in body.parameters())


def _cached(
    identity: str, texts: Sequence[str], cache: Path, compute: Callable[[], NDArray[np.floating]]
) -> Vectors:
    key = hashlib.sha256(f"{identity}/{fingerprint(texts)}".encode()).hexdigest()
    file = cache / f"{key}.npy"
    found = _mapped(file, len(texts))
    if found is None:
        write_array(file, unit(compute()))
        found = _mapped(file, len(texts))
    if found is None:
        raise ModelError(expected("cache", str(cache), "keep what is written", "another folder"))
    return found


def _mapped(file: Path, rows: int) -> Vectors | None:
    """Return the cached vectors, or None where there are none or the file is damaged."""
    try:
        vectors: Vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    right = vectors.ndim == 2 and len(vectors) == rows and vectors.dtype == np.float16
    return vectors if right else None

"""Document vectors: one space, unit length, computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedkd.data.bags import load_topics
from fedkd.errors import ModelError
from fedkd.models import text_vectors as module
from fedkd.models.encoder import load_sentence_encoder
from fedkd.models.text_vectors import text_vectors
from tests.models.conftest import sentences


@pytest.mark.parametrize("kind", ["lsa:16", "encoder"])
def test_vectors_are_computed_once_and_mapped(
    tmp_path: Path, tiny_bert: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_bert if kind == "encoder" else kind
    texts = sentences(80)[0]
    first = text_vectors(texts, encoder, tmp_path)
    assert first.dtype == np.float16
    assert first.shape == (80, 32 if kind == "encoder" else 16)
    np.testing.assert_allclose(np.linalg.norm(first.astype(float), axis=1), 1, atol=2e-3)
    assert len(list(tmp_path.iterdir())) == 1

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(module, "unit", refuse)
    second = text_vectors(texts, encoder, tmp_path)
    assert isinstance(second, np.memmap)
    np.testing.assert_array_equal(first, second)
    with pytest.raises(AssertionError, match="again"):
        text_vectors([*texts[1:], texts[0]], encoder, tmp_path)


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    texts = sentences(60)[0]
    first = np.array(text_vectors(texts, "lsa:8", tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:200])
    np.testing.assert_array_equal(text_vectors(texts, "lsa:8", tmp_path), first)


def test_an_encoder_gives_its_mean_states_at_unit_length(tmp_path: Path, tiny_bert: str) -> None:
    texts = sentences(20)[0]
    states = load_sentence_encoder(tiny_bert, module.MAX_TOKENS).encode(texts)
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    np.testing.assert_allclose(text_vectors(texts, tiny_bert, tmp_path), unit, atol=1e-3)


def test_parties_that_fit_on_the_same_texts_share_a_space(tmp_path: Path) -> None:
    public, own = sentences(90, seed=1)[0], sentences(30, seed=2)[0]
    together = text_vectors([*own, *public], "lsa:12", tmp_path, fit_texts=public)
    apart = text_vectors(own, "lsa:12", tmp_path / "party", fit_texts=public)
    np.testing.assert_array_equal(together[:30], apart)
    alone = text_vectors(own, "lsa:12", tmp_path)
    assert np.abs(alone.astype(float) - apart).max() > 0.1


def test_vectors_of_one_class_lie_together(tmp_path: Path) -> None:
    corpus = load_topics("generated:topics")
    assert corpus.labels is not None
    vectors = text_vectors(corpus.texts, "lsa:20", tmp_path).astype(np.float64)
    like = vectors @ vectors.T
    same = corpus.labels[:, None] == corpus.labels
    assert like[same].mean() > like[~same].mean() + 0.2


def test_a_text_of_unknown_words_is_zero(tmp_path: Path) -> None:
    public = sentences(40)[0]
    vectors = text_vectors(["zebra quagga", public[0]], "lsa:4", tmp_path, fit_texts=public)
    assert not vectors[0].any()
    assert vectors[1].any()


@pytest.mark.parametrize(
    ("texts", "encoder", "words"),
    [
        ([], "lsa:4", "at least 1 document"),
        (["a b", "c d", "e"], "lsa:3", "lsa:2"),
        (["a b", "c d"], "lsa:0", "at least 1"),
        (["", " "], "lsa:1", "hold words"),
        (["a"], "lsa", "lsa:384"),
        (["a"], "./nowhere", "be a folder that exists"),
    ],
)
def test_what_cannot_be_embedded_says_why(
    tmp_path: Path, texts: list[str], encoder: str, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        text_vectors(texts, encoder, tmp_path)

"""Laws of the two kinds that stand on transformers."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from fedkd.errors import ModelError
from fedkd.models import classifier, training
from fedkd.models.encoder import SentenceEncoder, embed_texts, load_sentence_encoder
from fedkd.models.tokens import tokenise, train_tokenizer
from fedkd.scenario import Model

from .conftest import LABELS, make, sentences

TEXTS, TRUTH = sentences(50)


def copy_without(folder: str, target: Path, *files: str) -> str:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*files))
    return str(target)


@pytest.mark.parametrize("named", [True, False])
def test_plain_transformers_give_the_same_probabilities(
    named: bool, tiny_bert: str, tmp_path: Path
):
    size = {"name": tiny_bert} if named else {"layers": 1, "width": 16, "vocabulary": 300}
    model = Model(model="transformer", epochs=2, max_tokens=16, **size)
    built = make(model, TEXTS)
    training.fit(built, TEXTS, training.hard_labels(TRUTH), model, seed=0)
    built.save(tmp_path, LABELS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    texts = [*TEXTS, "Ünusual 文字 " * 40]
    with torch.no_grad():
        logits = plain(
            **tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        ).logits
    np.testing.assert_allclose(
        torch.softmax(logits.double(), dim=-1).numpy(), training.predict(built, texts), atol=1e-6
    )
    assert plain.config.id2label == dict(enumerate(LABELS))


def test_a_tokenizer_is_trained_on_public_text_alone():
    private = ["zyzzyva zyzzyva zyzzyva quixotry quixotry"] * 50
    model = Model(model="transformer", layers=1, width=16, vocabulary=400)
    built = classifier.build(model, 3, seed=0, public_text=TEXTS, fit_text=private)
    alone = train_tokenizer(TEXTS, 400, 128)
    assert built.tokenizer.get_vocab() == alone.get_vocab()
    with pytest.raises(ModelError, match="hold text to train a tokenizer on"):
        classifier.build(model, 3, seed=0, public_text=["", " "], fit_text=private)


def test_the_trained_tokenizer_loses_nothing_but_case():
    tokenizer = train_tokenizer(TEXTS, 300, 128)
    rows = tokenise(tokenizer, ["Ünusual 文字 🙂", ""], 128)
    assert tokenizer.decode(rows.ids[: rows.lengths[0]], skip_special_tokens=True) == (
        " ünusual 文字 🙂"
    )
    assert rows.lengths.tolist()[1] == 2


def test_batches_are_padded_to_their_own_longest_row_and_cut_at_the_limit():
    rows = tokenise(train_tokenizer(TEXTS, 300, 128), ["box", "the box on monday", "box " * 99], 9)
    assert rows.batch(np.array([0, 1]))["input_ids"].shape[1] == rows.lengths[1] < 9
    mask = rows.batch(np.array([2, 0]))["attention_mask"]
    assert mask.sum(dim=1).tolist() == [9, rows.lengths[0]]


def test_an_embedding_is_the_mean_over_a_texts_own_tokens(tiny_bert: str):
    encoder = load_sentence_encoder(tiny_bert, 32)
    body, tokenizer = AutoModel.from_pretrained(tiny_bert), AutoTokenizer.from_pretrained(tiny_bert)
    found = encoder.encode(TEXTS)
    for row in (0, 7, 21):
        with torch.no_grad():
            states = body(**tokenizer(TEXTS[row], return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(found[row], states[0].mean(dim=0), atol=1e-5)


def test_the_cache_gives_the_same_bits_without_the_model(
    tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoder = load_sentence_encoder(tiny_bert, 32)
    first = encoder.encode(TEXTS, tmp_path / "cache")
    assert np.array_equal(first, encoder.encode(TEXTS))
    monkeypatch.setattr(encoder.body, "forward", lambda **_: pytest.fail("the model was called"))
    assert np.array_equal(encoder.encode(TEXTS, tmp_path / "cache"), first)
    monkeypatch.undo()
    other = encoder.encode(TEXTS[::-1], tmp_path / "cache")
    np.testing.assert_allclose(other[::-1], first, atol=1e-5)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_damaged_cache_file_is_made_anew(tiny_bert: str, tmp_path: Path):
    encoder = load_sentence_encoder(tiny_bert, 32)
    first = encoder.encode(TEXTS, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:200])
    assert np.array_equal(encoder.encode(TEXTS, tmp_path), first)
    assert np.array_equal(np.load(file), first)


def test_what_an_embedding_depends_on_is_in_the_identity(tiny_bert: str, tmp_path: Path):
    copy = copy_without(tiny_bert, tmp_path / "copy")
    assert load_sentence_encoder(copy, 32).identity == load_sentence_encoder(tiny_bert, 32).identity
    assert load_sentence_encoder(copy, 16).identity != load_sentence_encoder(copy, 32).identity
    body = AutoModel.from_pretrained(tiny_bert)
    with torch.no_grad():
        next(body.parameters())[0, 0] += 1
    body.save_pretrained(tmp_path / "copy")
    load_sentence_encoder.cache_clear()
    assert load_sentence_encoder(copy, 32).identity != load_sentence_encoder(tiny_bert, 32).identity


def test_a_head_is_not_loaded_onto_another_encoder(tiny_bert: str, tmp_path: Path):
    model = Model(model="encoder", name=copy_without(tiny_bert, tmp_path / "body"), max_tokens=32)
    built = make(model, TEXTS)
    assert isinstance(built.encoder, SentenceEncoder)
    built.save(tmp_path / "head", LABELS)
    shutil.rmtree(tmp_path / "body")
    load_sentence_encoder.cache_clear()
    with pytest.raises(ModelError, match="be a folder that exists"):
        classifier.load(tmp_path / "head")
    beside = tmp_path / "head" / "encoder"
    copy_without(tiny_bert, beside)
    assert np.array_equal(
        training.predict(classifier.load(tmp_path / "head"), TEXTS), training.predict(built, TEXTS)
    )
    tokenizer = train_tokenizer(["other words entirely"], 290, 64)
    tokenizer.save_pretrained(beside)
    load_sentence_encoder.cache_clear()
    with pytest.raises(ModelError, match="be the one that the head was trained on"):
        classifier.load(tmp_path / "head")


def test_label_names_can_be_embedded(tiny_bert: str, tmp_path: Path):
    vectors = embed_texts(tiny_bert, LABELS, tmp_path)
    assert vectors.shape == (3, 32)
    assert vectors.dtype == np.float64


@pytest.mark.parametrize("kind", ["encoder", "transformer"])
@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("config.json",), "config.json"),
        (("tokenizer*", "vocab*"), "tokenizer.json"),
        (("*.safetensors",), "model.safetensors"),
    ],
)
def test_a_missing_file_is_named(
    kind: str, missing: tuple[str, ...], named: str, tiny_bert: str, tmp_path: Path
):
    folder = copy_without(tiny_bert, tmp_path / "part", *missing)
    with pytest.raises(ModelError, match=rf"to hold {named}.*Try name = './part', a folder with"):
        make(Model(model=kind, name=folder), TEXTS)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_named(file: str, tiny_bert: str, tmp_path: Path):
    folder = copy_without(tiny_bert, tmp_path / "part")
    (Path(folder) / file).write_text("{")
    with pytest.raises(ModelError, match=f"hold a readable {file}"):
        make(Model(model="encoder", name=folder), TEXTS)


def test_an_unreachable_hub_says_how_to_use_a_local_copy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"config.json is missing.*hf download nobody/nothing --local-dir nothing"
    ):
        make(Model(model="encoder", name="nobody/nothing"), TEXTS)
    with pytest.raises(ModelError, match="be a folder that exists"):
        make(Model(model="transformer", name="./not/here"), TEXTS)

"""Laws that hold for every kind of classifier."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd.errors import ModelError
from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.scenario import Model

from .conftest import LABELS, make, sentences

TEXTS, TRUTH = sentences(80)


def trained(model: Model, seed: int = 0):
    with single_thread():
        built = make(model, TEXTS, seed)
        history = training.fit(built, TEXTS, training.hard_labels(TRUTH), model, seed=seed)
    return built, history


def weights(built: classifier.Classifier) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in built.module.state_dict().values()])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(model: Model):
    first, again, other = (trained(model, seed) for seed in (0, 0, 1))
    assert first[1] == again[1]
    assert torch.equal(weights(first[0]), weights(again[0]))
    assert np.array_equal(training.predict(first[0], TEXTS), training.predict(again[0], TEXTS))
    assert not torch.equal(weights(first[0]), weights(other[0]))


def test_no_global_generator_is_touched(model: Model, tmp_path: Path):
    torch.manual_seed(3)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    built, _ = trained(model)
    training.predict(built, TEXTS)
    built.save(tmp_path, LABELS)
    classifier.load(tmp_path)
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_the_global_generator_has_no_say(model: Model):
    torch.manual_seed(1)
    first = weights(trained(model)[0])
    torch.manual_seed(2)
    assert torch.equal(first, weights(trained(model)[0]))


def test_saving_and_loading_gives_the_same_probabilities(model: Model, tmp_path: Path):
    built, _ = trained(model)
    built.save(tmp_path / "model", LABELS)
    loaded = classifier.load(tmp_path / "model")
    assert loaded.labels == len(LABELS)
    assert classifier.label_names(tmp_path / "model") == LABELS
    assert np.array_equal(training.predict(built, TEXTS), training.predict(loaded, TEXTS))
    kinds = {file.suffix for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert kinds <= {".json", ".safetensors", ".md", ".txt"}


def test_saving_twice_writes_the_same_bytes(model: Model, tmp_path: Path):
    for name in ("first", "second"):
        trained(model)[0].save(tmp_path / name, LABELS)
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()


def test_probabilities_follow_their_text_in_any_order_and_batch(model: Model):
    built, _ = trained(model)
    probs = training.predict(built, TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = training.predict(built, [TEXTS[i] for i in order], batch_size=7)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(shuffled, probs[order], atol=1e-5)
    assert np.ptp(probs, axis=0).max() > 1e-3


def test_inputs_made_before_serve_as_well_as_texts(model: Model):
    built, _ = trained(model)
    inputs = built.inputs(TEXTS)
    assert len(inputs) == len(TEXTS)
    assert np.array_equal(training.predict(built, inputs), training.predict(built, TEXTS))
    rows = torch.tensor([5, 2, 40])
    np.testing.assert_allclose(
        torch.softmax(built.logits(inputs, rows).detach().double(), dim=-1).numpy(),
        training.predict(built, inputs)[rows.numpy()],
        atol=1e-5,
    )
    with single_thread():
        fresh = make(model, TEXTS)
        loss = training.hard_labels(TRUTH)
        training.fit(fresh, fresh.inputs(TEXTS), loss, model, seed=0)
    assert torch.equal(weights(fresh), weights(built))


def test_training_never_ends_above_the_untrained_loss(model: Model):
    built, history = trained(model)
    loss = training.hard_labels(TRUTH)
    held = training.split_rows(len(TEXTS), 0.12, 0)[1]
    measured = training.mean_loss(built, built.inputs(TEXTS), loss, held)
    assert measured == pytest.approx(min(history.held_out_loss), abs=1e-6)
    assert history.best == int(np.argmin(history.held_out_loss))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_fewer_rows_than_labels_or_only_one_label_train(model: Model, count: int):
    texts, one = TEXTS[:count], np.zeros(count, np.int64)
    built = make(model, texts)
    history = training.fit(built, texts, training.hard_labels(one), model, seed=0)
    assert bool(history.warnings) == (count < 4)
    probs = training.predict(built, ["a text unlike any other", "", "!?"])
    assert np.isfinite(probs).all()


def test_no_rows_give_an_error_and_no_texts_no_predictions(model: Model):
    built = make(model, TEXTS)
    loss = training.hard_labels(np.empty(0, np.int64))
    with pytest.raises(ModelError, match="Expected rows=0 to be at least 1"):
        training.fit(built, [], loss, model, seed=0)
    assert training.predict(built, []).shape == (0, len(LABELS))


def test_label_names_must_be_one_per_label(model: Model, tmp_path: Path):
    with pytest.raises(ModelError, match="hold 3 names"):
        make(model, TEXTS).save(tmp_path, ("only", "two"))

"""Vectors as inputs, students of subclasses, and what a teacher's last layer reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd.errors import DataError, ModelError
from fedkd.models import classifier, training
from fedkd.models.embeddings import embed, head_weights
from fedkd.models.heads import Collapsed, Layout
from fedkd.models.inputs import Subset
from fedkd.models.mlp import read_vectors
from fedkd.scenario import Model

from .conftest import LABELS, make, sentences

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(90, 4))
TEXTS = [" ".join(f"{value:.4f}" for value in row) for row in ROWS]
TRUTH = ((ROWS[:, 0] > 0).astype(np.int64) + (ROWS[:, 1] > 0)).astype(np.int64)
MLP = Model(model="mlp", widths=(16, 8), steps=120, batch_size=32)


def trained(model: Model = MLP):
    built = make(model, TEXTS)
    training.fit(built, TEXTS, training.hard_labels(TRUTH), model, seed=0)
    return built


def test_numbers_are_read_with_spaces_or_commas():
    np.testing.assert_array_equal(read_vectors(["1 2.5", "3,-4e1"]), [[1, 2.5], [3, -40]])


@pytest.mark.parametrize("text", ["1 two", "1", "1 2 3", "1 nan", "inf 2", ""])
def test_what_is_no_vector_is_told(text):
    with pytest.raises(DataError, match="vector 1"):
        read_vectors(["1 2", text])


def test_an_mlp_learns_saves_and_answers_as_before(tmp_path: Path):
    built = trained()
    probs = training.predict(built, TEXTS)
    assert (probs.argmax(axis=1) == TRUTH).mean() > 0.8
    built.save(tmp_path, LABELS)
    np.testing.assert_array_equal(training.predict(classifier.load(tmp_path), TEXTS), probs)
    with pytest.raises(DataError, match="be 4 finite numbers"):
        built.inputs(["1 2 3"])


def test_a_given_number_of_steps_is_taken_and_repeats():
    model = MLP.model_copy(update={"steps": 7})
    seen: list[int] = []
    truth = torch.from_numpy(TRUTH)

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if logits.requires_grad:
            seen.append(len(rows))
        return torch.nn.functional.cross_entropy(logits, truth[rows])

    weights = []
    for _ in range(2):
        built = make(model, TEXTS)
        history = training.fit(built, TEXTS, loss, model, seed=0)
        weights.append(torch.cat([p.detach().flatten() for p in built.module.parameters()]))
    assert len(seen) == 14 and seen[:3] == [32, 32, 26]
    assert torch.equal(*weights)
    assert history.held_out_rows == 0 and len(history.held_out_loss) == 2


def test_embeddings_and_head_make_the_logits():
    texts = sentences(30)[0]
    for model in (
        Model(model="bow", hidden=8),
        Model(model="transformer", layers=1, width=16, heads=2, vocabulary=300, max_tokens=32),
        MLP,
    ):
        own = TEXTS if model.model == "mlp" else texts
        built = make(model, own)
        rows = embed(built, own)
        head = head_weights(built)
        assert rows.shape == (len(own), head.shape[1]) and head.shape[0] == len(LABELS)
        logits = built.logits(built.inputs(own), np.arange(len(own))).detach().double().numpy()
        rest = logits - rows.astype(np.float64) @ head.T
        np.testing.assert_allclose(rest, np.broadcast_to(rest[:1], rest.shape), atol=1e-5)


def test_a_linear_bag_of_words_has_no_embedding():
    texts = sentences(30)[0]
    with pytest.raises(ModelError, match="hidden = 64"):
        embed(make(Model(model="bow"), texts), texts)


@pytest.mark.parametrize("kind", ["mlp", "bow", "transformer"])
def test_a_student_of_subclasses_answers_for_labels_after_loading(kind, tmp_path: Path):
    texts = TEXTS if kind == "mlp" else sentences(40)[0]
    small = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "max_tokens": 32}
    model = Model(model=kind, **(small if kind == "transformer" else {}))
    layout = Layout(2, 4)
    fine = classifier.build(
        model, layout.outputs(3), seed=0, public_text=texts, fit_text=texts, cache=None
    )
    if kind == "bow":
        torch.nn.init.normal_(fine.module.weight, generator=torch.Generator().manual_seed(0))
    whole = Collapsed(3, fine, layout)
    probs = training.predict(whole, texts)
    assert probs.shape == (len(texts), 3) and np.ptp(probs) > 0
    whole.save(tmp_path, LABELS)
    assert classifier.label_names(tmp_path) == LABELS
    loaded = classifier.load(tmp_path)
    assert loaded.labels == 3
    np.testing.assert_array_equal(training.predict(loaded, texts), probs)
    assert "4 subclasses" in (tmp_path / "README.md").read_text()
    (tmp_path / "subclasses.json").write_text("{}")
    with pytest.raises(ModelError, match=r"subclasses\.json"):
        classifier.load(tmp_path)


def test_students_with_more_outputs_share_the_trunk():
    plain, wide = (
        classifier.build(MLP, count, seed=3, public_text=TEXTS, fit_text=TEXTS) for count in (3, 15)
    )
    for one, other in zip(plain.module.hidden, wide.module.hidden, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])


def test_a_subset_is_the_same_rows():
    built = trained()
    inputs = built.inputs(TEXTS)
    rows = np.array([5, 3, 70])
    np.testing.assert_allclose(
        training.predict(built, Subset(inputs, rows)),
        training.predict(built, inputs)[rows],
        atol=1e-6,
    )

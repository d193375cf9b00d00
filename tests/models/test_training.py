"""Laws of the training loop: early stopping, held-out rows, batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedkd.errors import ModelError
from fedkd.models import training
from fedkd.models.defaults import FIELDS, defaults
from fedkd.models.determinism import single_thread
from fedkd.models.inputs import reading_batches, training_batches
from fedkd.scenario import Model

from .conftest import make, sentences

TEXTS, TRUTH = sentences(120)


def test_a_teacher_learns_what_its_texts_show():
    model = Model()
    texts, truth = sentences(400)
    built = make(model, texts)
    training.fit(built, texts, training.hard_labels(truth), model, seed=0)
    texts, truth = sentences(200, seed=1)
    assert (training.predict(built, texts).argmax(axis=1) == truth).mean() > 0.9


def test_a_student_comes_close_to_soft_targets():
    target = torch.from_numpy(np.random.default_rng(0).dirichlet([1, 1, 1], 3)[TRUTH]).float()

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return -(target[rows] * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()

    model = Model(epochs=200, patience=20)
    built = make(model, TEXTS)
    training.fit(built, TEXTS, loss, model, seed=0)
    assert np.abs(training.predict(built, TEXTS) - target.numpy()).mean() < 0.05


def test_a_loss_that_only_rises_leaves_the_untrained_model():
    held = set(training.split_rows(len(TEXTS), 0.12, 0)[1].tolist())
    right = training.hard_labels(TRUTH)
    wrong = training.hard_labels((TRUTH + 1) % 3)

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return (right if set(rows.tolist()) <= held else wrong)(logits, rows)

    model = Model(patience=4)
    built = make(model, TEXTS)
    before = training.predict(built, TEXTS)
    history = training.fit(built, TEXTS, loss, model, seed=0)
    assert history.best == 0
    assert len(history.held_out_loss) == 1 + 4
    assert np.array_equal(training.predict(built, TEXTS), before)


def test_a_loss_that_breaks_midway_keeps_the_best_weights_before():
    calls = 0

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        broken = float("nan") if calls > 12 else 0.0
        return training.hard_labels(TRUTH)(logits, rows) + broken * logits.sum()

    model = Model(batch_size=32)
    built = make(model, TEXTS)
    history = training.fit(built, TEXTS, loss, model, seed=0)
    assert np.isnan(history.held_out_loss[-1])
    assert history.best > 0
    assert np.isfinite(training.predict(built, TEXTS)).all()


def test_targets_that_are_not_numbers_are_refused_at_the_start():
    built = make(Model(), TEXTS)
    with pytest.raises(ModelError, match="held-out loss=nan to be finite"):
        training.fit(built, TEXTS, lambda z, _: z.sum() * float("nan"), Model(), seed=0)


def test_unknown_labels_are_refused():
    with pytest.raises(ModelError, match="rows without a label=2"):
        training.hard_labels(np.array([0, -1, 1, -1]))


def test_the_loss_sees_rows_of_the_whole_set_and_never_trains_on_the_held_out():
    seen: list[int] = []
    right = training.hard_labels(TRUTH)

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        assert rows.dtype == torch.int64
        assert logits.dtype == torch.float32
        if logits.requires_grad:
            seen.extend(rows.tolist())
        return right(logits, rows)

    history = training.fit(make(Model(), TEXTS), TEXTS, loss, Model(epochs=1), seed=5)
    rows, held = training.split_rows(len(TEXTS), 0.12, 5)
    assert sorted(seen) == rows.tolist()
    assert (history.train_rows, history.held_out_rows) == (len(rows), len(held))


@pytest.mark.parametrize("count", [1, 3, 4, 7, 10, 40, 100, 1000])
@pytest.mark.parametrize("share", [0.01, 0.12, 0.99])
def test_held_out_rows_are_apart_and_few(count: int, share: float):
    rows, held = training.split_rows(count, share, 0)
    assert len(rows) and len(held)
    if count < 4:
        assert rows.tolist() == held.tolist() == list(range(count))
    else:
        assert sorted([*rows, *held]) == list(range(count))
        assert len(held) >= min(8, count // 4)


def test_training_batches_hold_every_row_once_and_rows_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 200, 1000)
    rows = np.arange(0, 1000, 2)
    for known in (None, lengths):
        draws = [np.random.default_rng(seed) for seed in (1, 1, 2)]
        first, again, other = (
            [batch.tolist() for batch in training_batches(rows, known, 16, draw)] for draw in draws
        )
        assert sorted(row for batch in first for row in batch) == rows.tolist()
        assert first == again != other
    spread = [np.ptp(lengths[batch]) for batch in first]
    assert np.mean(spread) < 0.2 * np.ptp(lengths)


def test_reading_batches_go_from_long_to_short():
    lengths = np.array([3, 9, 1, 9, 4])
    batches = list(reading_batches(np.arange(5), lengths, 2))
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0], [2]]


def test_one_thread_is_given_back():
    threads = torch.get_num_threads()
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


def test_defaults_keep_what_is_given_and_leave_nothing_open():
    assert defaults(Model(learning_rate=0.5, hidden=3)).learning_rate == 0.5
    for kind in FIELDS:
        resolved = defaults(Model(model=kind, name="./a" if kind == "encoder" else None))
        assert all(
            getattr(resolved, field) is not None for field in FIELDS[kind] if field != "name"
        )


def test_impossible_models_are_refused():
    with pytest.raises(ModelError, match=r"model.name=None"):
        defaults(Model(model="encoder"))
    with pytest.raises(ModelError, match="width=30 to be a multiple of heads=4"):
        defaults(Model(model="transformer", width=30, heads=4))

"""The one training loop of teachers and students, and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fedkd.errors import ModelError, expected
from fedkd.models.classifier import Classifier
from fedkd.models.defaults import ResolvedModel, defaults
from fedkd.models.determinism import forked_generator
from fedkd.models.inputs import Inputs, Rows, reading_batches, training_batches
from fedkd.progress import Progress
from fedkd.scenario import Model
from fedkd.seeds import numpy_generator, seed_for

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(logits (batch, labels) float32, rows (batch,) int64 on the CPU, numbered in the whole set)
→ scalar, the mean over the batch."""

FEWEST_HELD_OUT = 8
READING_BATCH = 256


@dataclass(frozen=True)
class History:
    """How a training went.

    ``held_out_loss[0]`` is the untrained model's, entry e that after epoch e; ``best`` is the
    entry whose weights were kept. ``train_rows`` and ``held_out_rows`` count rows.
    """

    held_out_loss: tuple[float, ...]
    best: int
    train_rows: int
    held_out_rows: int
    warnings: tuple[str, ...] = ()


def fit(
    classifier: Classifier,
    texts: Inputs | Sequence[str],
    loss: LossFunction,
    model: Model,
    *,
    seed: int,
    progress: str | None = None,
) -> History:
    """Train ``classifier`` in place and leave it with the weights of the lowest held-out loss.

    AdamW on shuffled batches (rows of like length together where that saves padding). A share of
    the rows, drawn by seed, is held out; the same ``loss`` on them decides when to stop and which
    weights are kept, the untrained ones included, so a student needs no labels. The same
    arguments give the same bits on one thread of the CPU; global generators are not touched.

    Raises :class:`ModelError` where there are no rows or the loss is not finite at the start.
    """
    inputs = as_inputs(classifier, texts)
    settings = defaults(model)
    if settings.steps:
        return _fit_steps(classifier, inputs, loss, settings, seed=seed, progress=progress)
    rows, held = split_rows(len(inputs), settings.held_out, seed)
    alone = np.array_equal(rows, held)
    generator = numpy_generator(seed, "", 0, "batches")
    module = classifier.module
    optimizer = _optimizer(module, settings)
    losses = [mean_loss(classifier, inputs, loss, held)]
    _check_start(losses[0])
    best, weights = 0, _copy(module)
    with (
        forked_generator(seed_for(seed, "", 0, "dropout"), _device(module)),
        Progress(progress, settings.epochs) as bar,
    ):
        for epoch in range(1, settings.epochs + 1):
            module.train()
            for batch in training_batches(rows, inputs.lengths, settings.batch_size, generator):
                _step(classifier, inputs, loss, batch, optimizer)
            losses.append(mean_loss(classifier, inputs, loss, held))
            bar.advance(note=f"held-out loss {losses[-1]:.4f}")
            if losses[-1] < losses[best]:
                best, weights = epoch, _copy(module)
            elif epoch - best >= settings.patience or not math.isfinite(losses[-1]):
                break
    module.load_state_dict(weights)
    module.eval()
    warning = f"{len(rows)} rows are too few to hold some out: the same rows decide when to stop"
    return History(tuple(losses), best, len(rows), len(held), (warning,) if alone else ())


def _fit_steps(
    classifier: Classifier,
    inputs: Inputs,
    loss: LossFunction,
    settings: ResolvedModel,
    *,
    seed: int,
    progress: str | None,
) -> History:
    """Take a given number of steps on all rows, the step size falling to 0 as a cosine."""
    if not len(inputs):
        split_rows(0, settings.held_out, seed)
    rows = np.arange(len(inputs))
    module, generator = classifier.module, numpy_generator(seed, "", 0, "batches")
    optimizer = _optimizer(module, settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    before = mean_loss(classifier, inputs, loss, rows)
    _check_start(before)
    done = 0
    with (
        forked_generator(seed_for(seed, "", 0, "dropout"), _device(module)),
        Progress(progress, settings.steps) as bar,
    ):
        module.train()
        while done < settings.steps:
            batches = training_batches(rows, inputs.lengths, settings.batch_size, generator)
            for batch in islice(batches, settings.steps - done):
                _step(classifier, inputs, loss, batch, optimizer)
                schedule.step()
                done += 1
                bar.advance()
    module.eval()
    return History((before, mean_loss(classifier, inputs, loss, rows)), 1, len(rows), 0)


def predict(
    classifier: Classifier,
    texts: Inputs | Sequence[str],
    batch_size: int = READING_BATCH,
) -> NDArray[np.float64]:
    """Return probabilities (n, labels) float64 in the order given, the softmax in float64."""
    inputs = as_inputs(classifier, texts)
    probs = np.empty((len(inputs), classifier.labels))
    classifier.module.eval()
    with torch.inference_mode():
        for rows in reading_batches(np.arange(len(inputs)), inputs.lengths, batch_size):
            with _precision(classifier):
                logits = classifier.logits(inputs, rows)
            probs[rows] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
    return probs


def hard_labels(label: NDArray[np.int64]) -> LossFunction:
    """Return the mean cross-entropy to known labels (n,), of rows numbered in the whole set.

    Raises :class:`ModelError` where a label is unknown (below 0).
    """
    unknown = int((label < 0).sum())
    if unknown:
        raise ModelError(
            expected(
                "rows without a label", unknown, "equal 0 to train on them", "leaving them out"
            )
        )
    truth = torch.from_numpy(label.astype(np.int64))
    return lambda logits, rows: F.cross_entropy(logits, truth[rows].to(logits.device))


def as_inputs(classifier: Classifier, texts: Inputs | Sequence[str]) -> Inputs:
    """Return ``texts`` featurised, or as they are where that was done before."""
    return texts if isinstance(texts, Inputs) else classifier.inputs(texts)


def split_rows(count: int, held_out: float, seed: int) -> tuple[Rows, Rows]:
    """Return the rows trained on and those held out, both sorted.

    ``held_out`` of the rows are held out; of few rows at least eight, or a quarter where that is
    less. Fewer than four rows are trained on and held out alike.
    """
    if not count:
        raise ModelError(
            expected("rows", count, "be at least 1 to train a model", "more data or fewer parties")
        )
    held = min(max(round(count * held_out), min(FEWEST_HELD_OUT, count // 4)), count - 1)
    order = numpy_generator(seed, "", 0, "held-out rows").permutation(count)
    if count < 4:
        return np.arange(count), np.arange(count)
    return np.sort(order[held:]), np.sort(order[:held])


def mean_loss(classifier: Classifier, inputs: Inputs, loss: LossFunction, rows: Rows) -> float:
    """Return the mean loss over ``rows``, without gradient, in evaluation mode."""
    classifier.module.eval()
    total = 0.0
    with torch.no_grad():
        for batch in reading_batches(rows, inputs.lengths, READING_BATCH):
            with _precision(classifier):
                logits = classifier.logits(inputs, batch)
            total += float(loss(logits.float(), torch.from_numpy(batch))) * len(batch)
    return total / len(rows)


def _optimizer(module: torch.nn.Module, settings: ResolvedModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True,
    )  # fmt: skip


def _step(
    classifier: Classifier,
    inputs: Inputs,
    loss: LossFunction,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
) -> None:
    with _precision(classifier):
        logits = classifier.logits(inputs, rows)
    optimizer.zero_grad()
    loss(logits.float(), torch.from_numpy(rows)).backward()  # type: ignore[no-untyped-call]  # torch's
    optimizer.step()


def _precision(classifier: Classifier) -> AbstractContextManager[object]:
    """Compute in bfloat16 where the model is on a GPU that can."""
    if _device(classifier.module).type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device


def _copy(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _check_start(loss: float) -> None:
    if not math.isfinite(loss):
        raise ModelError(
            expected("held-out loss", loss, "be finite before training", "targets without NaN")
        )

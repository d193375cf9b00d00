"""Teachers that learn subclasses while they learn labels (Müller, Kornblith and Hinton 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedkd.errors import ModelError, expected
from fedkd.models.classifier import Classifier
from fedkd.models.heads import Collapsed, Layout
from fedkd.models.inputs import Inputs
from fedkd.models.training import LossFunction, hard_labels, predict

Floats = NDArray[np.float64]
SMALLEST = 1e-12


def learned_subclasses(label: NDArray[np.int64], layout: Layout) -> LossFunction:
    """Return the loss of a teacher with labels · S outputs: cross-entropy plus :func:`likeness`.

    The cross-entropy is that of log Σ_s exp f_cs with the label (arXiv 2002.03936, section 3);
    rows are numbered in the whole set.
    """
    labels = hard_labels(label)

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        return labels(layout.collapse(outputs), rows) + likeness(outputs)

    return loss


def likeness(outputs: Tensor) -> Tensor:
    """Return mean_i log((1/B) Σ_j exp(ẑ_i·ẑ_j / K − 1)) of a batch's outputs (B, K).

    ẑ are a row's outputs at mean 0 and variance 1. It is 0 where all rows are alike and falls as
    they use different subclasses: without it a teacher would use one of each label.
    """
    centred = outputs - outputs.mean(dim=1, keepdim=True)
    size = centred.square().mean(dim=1, keepdim=True).add(SMALLEST).sqrt()
    standard = centred / size
    alike = standard @ standard.T / outputs.shape[1]
    found: Tensor = (alike.logsumexp(dim=1) - 1 - log(max(1, len(outputs)))).mean()
    return found


def learned_conditionals(
    teacher: Classifier, texts: Inputs | Sequence[str], subclasses: int, beta: float
) -> Floats:
    """Return r (n, labels, S) = softmax_s(z / β) of the teacher's own outputs.

    Raises :class:`ModelError` for a teacher that did not learn so many subclasses.
    """
    own = teacher.layout.subclasses if isinstance(teacher, Collapsed) else 1
    if not isinstance(teacher, Collapsed) or own != subclasses:
        raise ModelError(
            expected(
                "teacher.subclasses", own, f"equal subclasses = {subclasses}",
                f"[teacher] subclasses = {subclasses}",
            )
        )  # fmt: skip
    probs = predict(teacher.fine, texts).reshape(-1, teacher.labels, subclasses)
    scores = np.log(np.maximum(probs, np.finfo(np.float64).tiny)) / beta
    raised = np.exp(scores - scores.max(axis=2, keepdims=True))
    return np.asarray(raised / raised.sum(axis=2, keepdims=True))

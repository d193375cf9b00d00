"""What a teacher's last layer reads: its embeddings, and the weights of that layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedkd.errors import ModelError, expected
from fedkd.models.classifier import Classifier
from fedkd.models.heads import Collapsed
from fedkd.models.inputs import Inputs, reading_batches
from fedkd.models.training import READING_BATCH, as_inputs


def last_layer(classifier: Classifier) -> nn.Linear:
    """Return the linear layer that makes the logits, in any kind of model.

    Raises :class:`ModelError` for a model without a layer before it, such as a linear bag of
    words, whose embedding would be the text itself.
    """
    if isinstance(classifier, Collapsed):
        return last_layer(classifier.fine)
    layers = [m for m in classifier.module.modules() if isinstance(m, nn.Linear)]
    if not layers or layers[-1].out_features != classifier.labels:
        raise ModelError(
            expected("model.hidden", 0, "be > 0 for embeddings to be used", "hidden = 64")
        )
    return layers[-1]


@contextmanager
def watched(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what is fed to ``layer`` inside the block, one tensor (batch, D) a forward pass."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def embed(classifier: Classifier, texts: Inputs | Sequence[str]) -> NDArray[np.float32]:
    """Return the last hidden representations (n, D) float32 in the order given.

    A bag of words' hidden layer, an encoder head's hidden layer or its standardised sentence
    vector, a transformer's pooled last layer.
    """
    inputs = as_inputs(classifier, texts)
    layer = last_layer(classifier)
    vectors = np.empty((len(inputs), layer.in_features), np.float32)
    classifier.module.eval()
    with torch.inference_mode(), watched(layer) as seen:
        for rows in reading_batches(np.arange(len(inputs)), inputs.lengths, READING_BATCH):
            classifier.logits(inputs, rows)
            vectors[rows] = seen.pop().float().cpu().numpy()
    return vectors


def head_weights(classifier: Classifier) -> NDArray[np.float64]:
    """Return the last layer's weights (labels, D) float64; they never leave the party."""
    return last_layer(classifier).weight.detach().cpu().double().numpy()

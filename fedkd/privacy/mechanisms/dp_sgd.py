"""DP-SGD (Abadi et al. 2016): a teacher whose training has been paid for once and for all.

Proof. Each step sums gradients of a Poisson sample, each clipped to norm C, so adding or removing
one record moves the sum by at most C; Gaussian noise of deviation σC makes the step a sampled
Gaussian mechanism, the steps compose, and every later release of the teacher, however often it is
asked, is post-processing.
Sensitivity: C, in Euclidean norm. Event: Gaussian of σ, Poisson-sampled at rate q, as many times as
there are steps. Unit: one training record of the party, added or removed. Not covered: the number
of rows, and rows that only measure the teacher.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ModelError, expected
from fedkd.models.bow import BowClassifier
from fedkd.models.classifier import Classifier
from fedkd.models.encoder import EncoderClassifier
from fedkd.models.inputs import Inputs
from fedkd.models.mlp import MlpClassifier
from fedkd.privacy.accountant import Event, calibrate
from fedkd.privacy.noise import NoiseKey
from fedkd.privacy.settings import Mechanism
from fedkd.progress import Progress

Rows = NDArray[np.int64]
SAMPLE_RATE = 0.2
STEPS = 100
CLIP = 1.0
# A bag's words weigh little beside a constant of 1, which would learn the label shares alone.
_CONSTANT = 0.1
_RATES = {"bow": 20.0, "hidden bow": 1.0, "encoder": 0.1, "mlp": 0.3}

logging.getLogger("opacus").setLevel(logging.WARNING)


def event(mechanism: Mechanism, epsilon: float | None, delta: float) -> Event:
    """Return what a whole training costs; the noise is calibrated where none is given."""
    rate, steps = mechanism.sample_rate or SAMPLE_RATE, mechanism.steps or STEPS
    noise = mechanism.noise
    if noise is None:
        if epsilon is None:
            raise ModelError("Expected noise or epsilon to be given for 'dp-sgd'. Try epsilon = 3")
        noise = calibrate(lambda s: Event("sampled-gaussian", s, steps, rate), epsilon, delta)
    return Event("sampled-gaussian", noise, steps, rate)


def fit(
    classifier: Classifier,
    inputs: Inputs,
    label: Rows,
    *,
    mechanism: Mechanism,
    spent: Event,
    key: NoiseKey,
) -> None:
    """Train ``classifier`` in place on labels (n,) as :func:`event` has priced it.

    The last weights are kept: choosing among them by held-out rows would look at the rows again.
    What the features were fitted on must not be private. Raises :class:`ModelError` for a kind of
    model that is not made of linear layers.
    """
    network = _network(classifier)
    clip = mechanism.clip or CLIP
    wrapped = GradSampleModuleFastGradientClipping(
        network.layers, max_grad_norm=clip, loss_reduction="sum", use_ghost_clipping=True
    )
    parameters = list(network.layers.parameters())
    deep = network.kind == "bow" and len(network.layers) > 1
    rate = mechanism.learning_rate or _RATES["hidden bow" if deep else network.kind]
    optimizer = torch.optim.SGD(parameters, lr=rate)
    truth = torch.from_numpy(label)
    network.layers.train()
    with Progress("private teacher", spent.count) as bar:
        for step in range(spent.count):
            chance = key.stream(f"step {step}", "dp-sgd sample").uniform((len(label),))
            rows = np.flatnonzero(chance < spent.rate)
            _clipped_sum(wrapped, network, inputs, truth, rows)
            _add_noise(parameters, spent.noise * clip, key, step)
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad /= spent.rate * len(label)
            optimizer.step()
            bar.advance()
    wrapped.to_standard_module()
    network.hand_back()
    classifier.module.eval()


@dataclass(frozen=True)
class _Network:
    """A classifier as linear layers on dense rows, for which Opacus knows gradient norms."""

    kind: str
    classifier: Classifier
    layers: nn.Sequential

    def dense(self, inputs: Inputs, rows: Rows) -> Tensor:
        """Return the first layer's input (batch, columns) float32."""
        module: Any = self.classifier.module
        batch = inputs.batch(rows)
        if self.kind == "encoder":
            return F.layer_norm(batch["vectors"], batch["vectors"].shape[-1:])
        if self.kind == "mlp":
            standard: Tensor = (batch["vectors"] - module.mean) / module.scale
            return standard
        sizes = torch.diff(batch["begins"], append=torch.tensor([len(batch["columns"])]))
        bags = torch.zeros(len(rows), len(module.weight) + 1)
        bags[:, -1] = _CONSTANT
        bags[torch.repeat_interleave(sizes), batch["columns"]] = batch["values"]
        return bags

    def hand_back(self) -> None:
        """Give a bag of words its weights; the others share them with their layers."""
        if self.kind == "bow":
            module: Any = self.classifier.module
            first: Any = self.layers[0]
            with torch.no_grad():
                module.weight.copy_(first.weight.T[:-1])
                module.bias.copy_(_CONSTANT * first.weight.T[-1])


def _network(classifier: Classifier) -> _Network:
    match classifier:
        case BowClassifier():
            module = classifier.module
            columns, width = module.weight.shape
            first = nn.Linear(columns + 1, width, bias=False)
            with torch.no_grad():
                first.weight.copy_(torch.cat([module.weight, module.bias[None] / _CONSTANT]).T)
            rest = [] if module.out is None else [nn.ReLU(), module.out]
            return _Network("bow", classifier, nn.Sequential(first, *rest))
        case EncoderClassifier():
            head = classifier.module
            before = [] if head.hidden is None else [head.hidden, nn.ReLU()]
            return _Network("encoder", classifier, nn.Sequential(*before, head.out))
        case MlpClassifier():
            layers = [*classifier.module.hidden, classifier.module.out]
            return _Network("mlp", classifier, nn.Sequential(*layers))
    raise ModelError(
        expected(
            "teacher.model", type(classifier).__name__, "be trainable with 'dp-sgd'",
            "model = 'bow', 'encoder' or 'mlp'",
        )
    )  # fmt: skip


def _clipped_sum(
    wrapped: GradSampleModuleFastGradientClipping,
    network: _Network,
    inputs: Inputs,
    truth: Tensor,
    rows: Rows,
) -> None:
    """Leave in ``.grad`` the sum of the sampled rows' gradients, each at most the clipping norm.

    One backward pass for the norms and a second for the weighted sum (Li et al. 2022).
    """
    wrapped.zero_grad()
    if not len(rows):
        for parameter in network.layers.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return
    # Opacus hangs its hooks on the gradient of the input.
    logits = wrapped(network.dense(inputs, rows).requires_grad_())
    loss = F.cross_entropy(logits, truth[torch.from_numpy(rows)], reduction="none")
    torch.autograd.backward(loss.sum(), retain_graph=True)
    weights = wrapped.get_clipping_coef()
    wrapped.zero_grad()
    wrapped.disable_hooks()
    torch.autograd.backward((weights * loss).sum())
    wrapped.enable_hooks()


def _add_noise(parameters: list[nn.Parameter], deviation: float, key: NoiseKey, step: int) -> None:
    for number, parameter in enumerate(parameters):
        stream = key.stream(f"step {step}", f"dp-sgd noise {number}")
        noise = torch.from_numpy(stream.normal(tuple(parameter.shape)).astype(np.float32))
        assert parameter.grad is not None
        parameter.grad += deviation * noise

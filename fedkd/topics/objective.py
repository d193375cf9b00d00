"""What a topic student learns from: documents, and what teachers say of them.

Adhya & Sanyal, "Improving Neural Topic Models with Wasserstein Knowledge Distillation", ECIR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedkd.errors import ScenarioError, expected
from fedkd.models.topic_network import Bags, Pass, TopicNetwork
from fedkd.models.topic_training import Terms, elbo
from fedkd.transport.gaussian import gaussian_w2
from fedkd.transport.gibbs import gibbs_kernel
from fedkd.transport.sinkhorn import sinkhorn

LEAST = -1e30  # stands for log 0 where nothing is asked of it


@dataclass(frozen=True)
class TopicTargets:
    """What the teachers say of each document, already brought together.

    ``words`` (documents, words) are soft labels at the temperature of the distillation. ``mean``
    and ``spread`` (documents, topics) are the latent Gaussians, ``theirs`` marks the student's
    topics that they cover, ``emphasis`` (documents,) weighs documents, and ``shares`` (documents,
    topics) with ``cost`` (topics, topics) belong to the transport of topic proportions.
    """

    words: Tensor
    mean: Tensor | None = None
    spread: Tensor | None = None
    covered: Tensor | None = None
    emphasis: Tensor | None = None
    shares: Tensor | None = None
    cost: Tensor | None = None


@dataclass(frozen=True)
class Distillation:
    """L = (1 − α)(RL + KL) + α Σ_d u_d (λ W₂² + T² CE + γ S_ε), summed over the batch.

    RL is the reconstruction loss; W₂² = ‖μ_S − μ_T‖² + ‖σ_S − σ_T‖² between the posteriors,
    CE = −Σ_v q_v log softmax(l_S/T)_v, and S_ε the entropic transport between topic proportions.
    ``latent`` is λ (the paper's 1) and ``proportions`` is γ (the paper's 0); u_d is 1 unless the
    targets say otherwise. ``words`` False leaves the cross-entropy out.
    """

    targets: TopicTargets
    alpha: float = 0.5
    temperature: float = 1.0
    latent: float = 1.0
    proportions: float = 0.0
    epsilon: float = 0.1
    words: bool = True

    def __post_init__(self) -> None:
        check_terms(self.alpha, self.temperature)
        if self.latent and self.targets.mean is None:
            raise ScenarioError(expected("latent", self.latent, "be 0 without latents", "0"))

    def __call__(
        self, network: TopicNetwork, done: Pass, bags: Bags, rows: Tensor
    ) -> tuple[Tensor, Terms]:
        """Return the loss of a batch and its terms, each summed over the documents."""
        own, terms = elbo(network, done, bags, rows)
        told = self.targets
        u = None if told.emphasis is None else told.emphasis[rows]
        words = told.words[rows].to(done.logits.dtype)
        terms["cross_entropy"] = soft_cross_entropy(done.logits, words, self.temperature, u)
        taught = self.temperature**2 * terms["cross_entropy"] * self.words
        if self.latent and told.mean is not None and told.spread is not None:
            terms["transport"] = self._latent(done, told.mean[rows], told.spread[rows], u)
            taught = taught + self.latent * terms["transport"]
        if self.proportions and told.shares is not None and told.cost is not None:
            gibbs = gibbs_kernel(told.cost, self.epsilon)
            found = sinkhorn(torch.softmax(done.mean, dim=1), told.shares[rows], gibbs)
            terms["proportions"] = found.sum() if u is None else (u * found).sum()
            taught = taught + self.proportions * terms["proportions"]
        return (1 - self.alpha) * own + self.alpha * taught, terms

    def _latent(self, done: Pass, mean: Tensor, spread: Tensor, u: Tensor | None) -> Tensor:
        own, wide = done.mean, torch.exp(0.5 * done.log_variance)
        if self.targets.covered is not None:
            own, wide = own[:, self.targets.covered], wide[:, self.targets.covered]
            mean, spread = mean[:, self.targets.covered], spread[:, self.targets.covered]
        distance = gaussian_w2(own, wide, mean.to(own.dtype), spread.to(own.dtype))
        return distance.sum() if u is None else (u * distance).sum()


def check_terms(alpha: float, temperature: float) -> None:
    """Raise :class:`ScenarioError` unless 0 ≤ α ≤ 1 and T > 0."""
    if not 0 <= alpha <= 1:
        raise ScenarioError(expected("alpha", alpha, "be in [0, 1]", "alpha = 0.5"))
    if not temperature > 0:
        raise ScenarioError(expected("temperature", temperature, "be > 0", "temperature = 2.0"))


def soft_cross_entropy(
    logits: Tensor, words: Tensor, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Return −Σ_d u_d Σ_v q_dv log softmax(l_d/T)_v; ``words`` q (documents, words) ≥ 0."""
    u = logits.new_ones(len(logits)) if weights is None else weights.to(logits.dtype)
    found: Tensor = _SoftCrossEntropy.apply(logits, words, temperature, u[:, None])  # type: ignore[no-untyped-call]  # torch's
    return found


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, words: Tensor, temperature: float, u: Tensor) -> Tensor:
        logs = torch.log_softmax(logits / temperature, dim=1)
        told = words * u
        ctx.save_for_backward(logs, told)
        ctx.temperature = temperature
        return -torch.dot(told.reshape(-1), logs.clamp(min=LEAST).reshape(-1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        logs, told = ctx.saved_tensors
        slope = logs.exp().mul_(told.sum(dim=1, keepdim=True)).sub_(told)
        return slope.mul_(grads[0] / ctx.temperature), None, None, None

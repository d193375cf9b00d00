"""Neural topic models: ProdLDA, CombinedTM and ZeroShotTM on sparse bags of words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ModelError, expected
from fedkd.models.determinism import forked_generator

TopicInputs = Literal["bag", "combined", "zero-shot"]
PUBLISHED_DEAD_WIDTH = 100  # the published teacher holds a layer that nothing reads
MOMENTUM = 0.1
EPSILON = 1e-5


@dataclass(frozen=True)
class TopicShape:
    """What a topic network is made of.

    ``inputs`` is what the encoder reads: the bag of words (ProdLDA), the bag and the text's vector
    (CombinedTM), or the vector alone (ZeroShotTM). ``hidden`` are the widths of the encoder's
    layers; (words,) is the student of Adhya & Sanyal, ECIR 2023. ``adapt`` puts a linear layer as
    wide as the vocabulary between the vector and the first hidden layer of CombinedTM, as
    published; without it that pair of linear layers is one, the same functions with fewer numbers.
    """

    inputs: TopicInputs
    words: int
    topics: int
    vectors: int = 0
    hidden: tuple[int, ...] = (100, 100)
    adapt: bool = False
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name, value, least, remedy in (
            ("topics", self.topics, 2, "topics = 20"),
            ("words", self.words, self.topics, "fewer topics, or a larger vocabulary"),
            ("layers of hidden", len(self.hidden), 1, "hidden = [100, 100]"),
            ("smallest of hidden", min(self.hidden, default=1), 1, "hidden = [100, 100]"),
            ("vectors", self.vectors, int(self.inputs != "bag"), "an encoder for the texts"),
        ):
            if value < least:
                raise ModelError(expected(name, value, f"be at least {least}", remedy))
        if not 0 <= self.dropout < 1:
            raise ModelError(expected("dropout", self.dropout, "be in [0, 1)", "0.2"))
        if self.adapt and self.inputs != "combined":
            raise ModelError(expected("adapt", True, "go with inputs='combined'", "adapt = false"))


@dataclass(frozen=True)
class Bags:
    """A minibatch of bags of words as its non-zeros.

    ``row`` and ``word`` (nnz,) int64, ``count`` (nnz,), ``length`` (documents, 1) words each.
    """

    row: Tensor
    word: Tensor
    count: Tensor
    length: Tensor
    words: int

    @property
    def flat(self) -> Tensor:
        """Positions of the non-zeros in a (documents, words) matrix laid out in rows."""
        return self.row * self.words + self.word

    def dense(self) -> Tensor:
        """Return (documents, words)."""
        zero = self.count.new_zeros(len(self.length), self.words)
        return zero.index_put((self.row, self.word), self.count)


@dataclass(frozen=True)
class Pass:
    """What one forward pass leaves: posterior, topic shares and normalised word logits."""

    mean: Tensor
    log_variance: Tensor
    theta: Tensor
    logits: Tensor


class TopicNetwork(nn.Module):
    """An amortised topic model (Srivastava & Sutton 2017; Bianchi et al. 2021).

    The prior is the Laplace approximation of Dirichlet(1), mean 0 and variance 1 − 1/K, and
    learned. ``support`` (words,) bool marks the words that may get mass; others have logit −inf.
    """

    support: Tensor

    def __init__(self, shape: TopicShape) -> None:
        super().__init__()
        self.shape = shape
        first, last, topics = shape.hidden[0], shape.hidden[-1], shape.topics
        fan = shape.vectors if shape.inputs == "zero-shot" else shape.words
        if shape.inputs == "combined":
            fan += shape.words if shape.adapt else shape.vectors
        self.word_in = _uniform(fan, shape.words, first) if shape.inputs != "zero-shot" else None
        self.adapt = nn.Linear(shape.vectors, shape.words) if shape.adapt else None
        wide = shape.words if shape.adapt else shape.vectors
        self.vector_in = _uniform(fan, wide, first) if shape.inputs != "bag" else None
        self.first_bias = _uniform(fan, first)
        pairs = zip(shape.hidden, shape.hidden[1:], strict=False)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairs])
        self.to_mean, self.to_log_variance = nn.Linear(last, topics), nn.Linear(last, topics)
        self.prior_mean = nn.Parameter(torch.zeros(topics))
        self.prior_variance = nn.Parameter(torch.full((topics,), 1 - 1 / topics))
        self.beta = nn.Parameter(nn.init.xavier_uniform_(torch.empty(topics, shape.words)))
        for name, width in (("mean", topics), ("log_variance", topics), ("word", shape.words)):
            self.register_buffer(f"{name}_center", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))
        self.register_buffer("support", torch.ones(shape.words, dtype=torch.bool))
        self.masked = False

    def restrict(self, support: Tensor) -> None:
        """Keep mass on these words alone, in training and afterwards."""
        self.support.copy_(support)
        self.masked = not bool(support.all())

    def encode(self, bags: Bags | None, vectors: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and log variance (documents, topics)."""
        hidden: Tensor = self.first_bias
        if self.word_in is not None and bags is not None:
            hidden = hidden + sparse_product(bags, self.word_in)
        if self.vector_in is not None and vectors is not None:
            read = vectors if self.adapt is None else self.adapt(vectors)
            hidden = torch.addmm(hidden, read, self.vector_in)
        hidden = F.softplus(hidden)
        for layer in self.layers:
            hidden = F.softplus(layer(hidden))
        hidden = F.dropout(hidden, self.shape.dropout, self.training)
        mean = self._standard("mean", self.to_mean(hidden))
        return mean, self._standard("log_variance", self.to_log_variance(hidden))

    def decode(self, theta: Tensor) -> Tensor:
        """Return word logits (documents, words) after the batch norm; −inf off the support."""
        logits = self._standard("word", theta @ self.beta)
        return logits.masked_fill(~self.support, -math.inf) if self.masked else logits

    def forward(self, bags: Bags | None, vectors: Tensor | None) -> Pass:
        """Encode, draw topic shares once, and decode."""
        mean, log_variance = self.encode(bags, vectors)
        spread = torch.exp(0.5 * log_variance)
        draw = torch.addcmul(mean, torch.randn_like(spread), spread)
        theta = F.dropout(torch.softmax(draw, dim=1), self.shape.dropout, self.training)
        return Pass(mean, log_variance, theta, self.decode(theta))

    def kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return Σ over documents of KL(posterior ‖ prior), both diagonal Gaussians."""
        gap = mean - self.prior_mean
        ratio = (log_variance.exp() + gap * gap) / self.prior_variance
        constant = len(mean) * (self.prior_variance.log().sum() - self.shape.topics)
        return 0.5 * (ratio.sum() - log_variance.sum() + constant)

    def _standard(self, name: str, values: Tensor) -> Tensor:
        center, scale = getattr(self, f"{name}_center"), getattr(self, f"{name}_scale")
        return F.batch_norm(
            values, center, scale, training=self.training, momentum=MOMENTUM, eps=EPSILON
        )


def build_network(shape: TopicShape, seed: int) -> TopicNetwork:
    """Return a network whose first numbers depend on shape and seed alone."""
    with forked_generator(seed):
        return TopicNetwork(shape)


def sparse_product(bags: Bags, matrix: Tensor) -> Tensor:
    """Return bags @ matrix, (documents, width), touching the non-zeros alone."""
    product: Tensor = _SparseProduct.apply(matrix, bags)  # type: ignore[no-untyped-call]  # torch's
    return product


def reconstruction(logits: Tensor, bags: Bags) -> Tensor:
    """Return −Σ x log softmax(logits), the log-probability gathered at the words that occur."""
    loss: Tensor = _Reconstruction.apply(logits, bags)  # type: ignore[no-untyped-call]  # torch's
    return loss


def parameter_counts(shape: TopicShape) -> dict[str, int]:
    """Return how many numbers a network holds: ``built``, ``collapsed`` and ``published``.

    ``collapsed`` counts one linear layer where two follow each other; ``published`` is what the
    published code holds, with a layer in its CombinedTM that nothing reads.
    """
    first, last, topics = shape.hidden[0], shape.hidden[-1], shape.topics
    head = 2 * (last * topics + topics) + topics * shape.words + 2 * topics
    middle = sum(a * b + b for a, b in zip(shape.hidden, shape.hidden[1:], strict=False))
    reads = {
        "bag": shape.words,
        "combined": shape.words + shape.vectors,
        "zero-shot": shape.vectors,
    }[shape.inputs]
    collapsed = reads * first + first + middle + head
    detour = shape.vectors * shape.words + shape.words + 2 * shape.words * first + first
    adapted = detour + middle + head
    built = adapted if shape.adapt else collapsed
    dead = PUBLISHED_DEAD_WIDTH * PUBLISHED_DEAD_WIDTH + PUBLISHED_DEAD_WIDTH
    published = adapted + dead if shape.inputs == "combined" else collapsed
    return {"built": built, "collapsed": collapsed, "published": published}


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, bags: Bags) -> Tensor:
        ctx.bags, ctx.size = bags, matrix.shape
        rows = matrix.index_select(0, bags.word).mul_(bags.count[:, None])
        return matrix.new_zeros(len(bags.length), matrix.shape[1]).index_add_(0, bags.row, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        bags = ctx.bags
        rows = grads[0].index_select(0, bags.row).mul_(bags.count[:, None])
        return grads[0].new_zeros(ctx.size).index_add_(0, bags.word, rows), None


class _Reconstruction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, bags: Bags) -> Tensor:
        logs = torch.log_softmax(logits, dim=1)
        flat = bags.flat
        ctx.bags, ctx.flat = bags, flat
        ctx.save_for_backward(logs)
        return -torch.dot(logs.view(-1).index_select(0, flat), bags.count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (logs,) = ctx.saved_tensors
        slope = logs.exp().mul_(ctx.bags.length)
        slope.view(-1).index_add_(0, ctx.flat, ctx.bags.count, alpha=-1)
        return slope.mul_(grads[0]), None


def _uniform(fan: int, *size: int) -> nn.Parameter:
    bound = 1 / math.sqrt(fan)
    return nn.Parameter(torch.empty(*size).uniform_(-bound, bound))

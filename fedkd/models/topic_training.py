"""Training a topic network on sparse documents, and asking it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor
from torch.optim.adam import adam

from fedkd.errors import DataError, ModelError, expected
from fedkd.models.determinism import forked_generator
from fedkd.models.topic_network import Bags, Pass, TopicNetwork, reconstruction
from fedkd.progress import Progress

Floats = NDArray[np.floating]
Terms = dict[str, Tensor]
Objective = Callable[[TopicNetwork, Pass, Bags, Tensor], tuple[Tensor, Terms]]
ASK_BATCH = 1024


@dataclass(frozen=True)
class Documents:
    """Bags (documents, words) with sorted columns, and the texts' vectors (documents, width)."""

    bags: csr_array
    vectors: Floats | None = None

    def __post_init__(self) -> None:
        if self.vectors is not None and len(self.vectors) != self.bags.shape[0]:
            raise DataError(
                expected("vectors", len(self.vectors), f"be {self.bags.shape[0]}", "one a document")
            )

    def __len__(self) -> int:
        return int(self.bags.shape[0])

    def take(self, rows: NDArray[np.integer]) -> Documents:
        """Return these documents, in this order."""
        return Documents(self.bags[rows], None if self.vectors is None else self.vectors[rows])

    def batches(
        self, batch: int, dtype: torch.dtype = torch.float32
    ) -> Iterator[tuple[slice, Bags, Tensor | None]]:
        """Yield runs of ``batch`` documents as tensors; the last may be shorter."""
        bags, (count, words) = self.bags, self.bags.shape
        per_row = np.diff(bags.indptr)
        row = torch.from_numpy(np.repeat(np.arange(count) % batch, per_row))
        word = torch.from_numpy(bags.indices.astype(np.int64))
        value = torch.from_numpy(bags.data).to(dtype)
        length = torch.from_numpy(np.asarray(bags.sum(axis=1))).to(dtype)[:, None]
        for start in range(0, count, batch):
            stop = min(start + batch, count)
            a, b = int(bags.indptr[start]), int(bags.indptr[stop])
            read = None
            if self.vectors is not None:
                read = torch.from_numpy(np.array(self.vectors[start:stop])).to(dtype)
            part = Bags(row[a:b], word[a:b], value[a:b], length[start:stop], int(words))
            yield slice(start, stop), part, read


@dataclass(frozen=True)
class TopicTraining:
    """How a topic network is trained: Adam with betas (0.99, 0.99), as published."""

    epochs: int = 100
    batch: int = 64
    rate: float = 2e-3
    momentum: float = 0.99


@dataclass(frozen=True)
class TopicHistory:
    """Each epoch's terms of the loss per document."""

    epochs: list[dict[str, float]] = field(default_factory=list)


def elbo(network: TopicNetwork, done: Pass, bags: Bags, rows: Tensor) -> tuple[Tensor, Terms]:
    """Return reconstruction + KL summed over the batch: the loss of a model without a teacher."""
    missed = reconstruction(done.logits, bags)
    kl = network.kl(done.mean, done.log_variance)
    return missed + kl, {"reconstruction": missed, "kl": kl}


def fit_topics(
    network: TopicNetwork,
    documents: Documents,
    training: TopicTraining,
    *,
    seed: int,
    objective: Objective = elbo,
    each_epoch: Callable[[int, TopicNetwork], None] | None = None,
    progress: str | None = None,
) -> TopicHistory:
    """Train in place and return what each epoch came to; the network is left in eval mode.

    ``objective`` gets the row numbers of the batch in ``documents``; ``each_epoch`` is called with
    the network before every epoch. The documents that do not
    fill a batch sit out an epoch, another draw each time: a batch norm over few documents is
    noise. Raises :class:`DataError` for fewer than two documents and :class:`ModelError` for
    inputs that the network was not made for, or a loss that is not finite.
    """
    check_documents(network, documents)
    count, batch = len(documents), min(training.batch, len(documents))
    if count < 2:
        raise DataError(expected("documents", count, "be at least 2", "more documents"))
    used = count - count % batch
    order = np.random.default_rng(seed)
    parameters = list(network.parameters())
    optimiser = _Adam(parameters, training)
    history = TopicHistory()
    network.train()
    with forked_generator(seed), Progress(progress, training.epochs) as bar:
        for epoch in range(training.epochs):
            if each_epoch is not None:
                each_epoch(epoch, network)
                network.train()
            rows = order.permutation(count)[:used]
            sums: dict[str, Tensor] = {}
            turns = torch.from_numpy(rows)
            for where, bags, vectors in documents.take(rows).batches(batch, parameters[0].dtype):
                loss, terms = objective(network, network(bags, vectors), bags, turns[where])
                optimiser.step(torch.autograd.grad(loss, parameters, allow_unused=True))
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0) + value.detach()
            history.epochs.append({name: float(value) / used for name, value in sums.items()})
            if not np.isfinite(list(history.epochs[-1].values())).all():
                raise ModelError(
                    expected(f"loss of epoch {epoch}", history.epochs[-1], "be finite", "less rate")
                )
            bar.advance()
    network.eval()
    return history


class _Adam:
    """Torch's fused Adam without what its class does around every step of a small model."""

    def __init__(self, parameters: Sequence[Tensor], training: TopicTraining) -> None:
        self._parameters = list(parameters)
        self._training = training
        self._first = [torch.zeros_like(p) for p in parameters]
        self._second = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros(()) for _ in parameters]

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor | None]) -> None:
        """Move the parameters that have a gradient."""
        there = [i for i, grad in enumerate(grads) if grad is not None]
        adam(
            [self._parameters[i] for i in there],
            [grad for grad in grads if grad is not None],
            [self._first[i] for i in there],
            [self._second[i] for i in there],
            [],
            [self._steps[i] for i in there],
            fused=True,
            amsgrad=False,
            beta1=self._training.momentum,
            beta2=self._training.momentum,
            lr=self._training.rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def check_documents(network: TopicNetwork, documents: Documents) -> None:
    """Raise :class:`ModelError` unless the network was made for such documents."""
    shape = network.shape
    width = 0 if documents.vectors is None else documents.vectors.shape[1]
    wanted = shape.vectors if shape.inputs != "bag" else width
    for name, got, want in (
        ("words", int(documents.bags.shape[1]), shape.words),
        ("width of the text vectors", width, wanted),
    ):
        if got != want:
            raise ModelError(expected(name, got, f"equal {want}", "what the model was made with"))


@torch.no_grad()
def posterior(network: TopicNetwork, documents: Documents) -> tuple[Floats, Floats]:
    """Return mean and log variance (documents, topics) float64 in eval mode."""
    check_documents(network, documents)
    network.eval()
    dtype = network.beta.dtype
    parts = [network.encode(bags, v) for _, bags, v in documents.batches(ASK_BATCH, dtype)]
    mean, log_variance = (torch.cat([p[i] for p in parts]).double().numpy() for i in (0, 1))
    return mean, log_variance


def shares(mean: Floats, log_variance: Floats, samples: int, seed: int) -> Floats:
    """Return the mean of softmax(z) over draws z of the posterior, (documents, topics)."""
    draw = np.random.default_rng(seed)
    spread, total = np.exp(0.5 * log_variance), np.zeros_like(mean)
    for _ in range(samples):
        z = mean + spread * draw.standard_normal(mean.shape)
        z = np.exp(z - z.max(axis=1, keepdims=True))
        total += z / z.sum(axis=1, keepdims=True)
    return total / samples


@torch.no_grad()
def word_shares(
    network: TopicNetwork,
    mean: Floats,
    log_variance: Floats,
    *,
    samples: int,
    seed: int,
    temperature: float = 1.0,
    normalised: bool = True,
) -> Floats:
    """Return the mean over draws of softmax(logits / temperature), (documents, words) float32.

    ``normalised`` False leaves the decoder's batch norm out, as the published code does for the
    teacher's soft label.
    """
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    dtype = network.beta.dtype
    found = np.empty((len(mean), network.shape.words), np.float32)
    for start in range(0, len(mean), ASK_BATCH):
        m = torch.from_numpy(np.asarray(mean[start : start + ASK_BATCH])).to(dtype)
        s = torch.from_numpy(np.asarray(log_variance[start : start + ASK_BATCH])).to(dtype)
        s = torch.exp(0.5 * s)
        total = torch.zeros(len(m), network.shape.words, dtype=dtype)
        for _ in range(samples):
            theta = torch.softmax(m + s * torch.randn(m.shape, generator=generator, dtype=dtype), 1)
            logits = network.decode(theta) if normalised else raw_logits(network, theta)
            total += torch.softmax(logits / temperature, dim=1)
        found[start : start + ASK_BATCH] = (total / samples).numpy()
    return found


def raw_logits(network: TopicNetwork, theta: Tensor) -> Tensor:
    """Return θB without the batch norm, −inf off the support."""
    return (theta @ network.beta).masked_fill(~network.support, -torch.inf)


@torch.no_grad()
def topic_words(network: TopicNetwork, *, normalised: bool = False) -> Floats:
    """Return a score for each word of each topic (topics, words) by which to rank words.

    The decoder's own rows, or with ``normalised`` the logits of documents of one topic alone,
    which do not change when a column of the decoder is scaled.
    """
    network.eval()
    if normalised:
        scores = network.decode(torch.eye(network.shape.topics, dtype=network.beta.dtype))
    else:
        scores = raw_logits(network, torch.eye(network.shape.topics, dtype=network.beta.dtype))
    found: Floats = scores.double().numpy()
    return found


def log_likelihoods(word_probs: Floats, bags: csr_array) -> NDArray[np.float64]:
    """Return Σ_v x_v log p_v of each document, float64; −inf where an unseen word occurs."""
    row = np.repeat(np.arange(bags.shape[0]), np.diff(bags.indptr))
    with np.errstate(divide="ignore"):
        logs = np.log(word_probs[row, bags.indices].astype(np.float64))
    total: NDArray[np.float64] = np.zeros(bags.shape[0])
    np.add.at(total, row, bags.data * logs)
    return total

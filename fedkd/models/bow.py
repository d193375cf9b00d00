"""Bag of words: hashed word uni- and bigrams, TF-IDF, and a linear or one-hidden-layer network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor, nn
from torch.nn import functional as F

from fedkd.errors import ModelError, expected
from fedkd.models.defaults import ResolvedModel
from fedkd.models.determinism import forked_generator
from fedkd.models.folder import (
    Card,
    check_names,
    read_card,
    read_weights,
    write_card,
    write_weights,
)
from fedkd.models.inputs import Ragged, Rows, as_rows, to_tensor
from fedkd.seeds import seed_for

HIDDEN_SPREAD = 0.1


@dataclass(frozen=True)
class SparseRows:
    """TF-IDF rows: row i holds ``values`` at ``columns``, both flat (nonzeros,), of unit norm."""

    ragged: Ragged
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    lengths: None = None

    def __len__(self) -> int:
        return len(self.ragged)

    def batch(self, rows: Rows) -> dict[str, Tensor]:
        """Return the bags of ``rows`` as :class:`BowNetwork` takes them."""
        flat, begins = self.ragged.gather(rows)
        return {
            "columns": torch.from_numpy(self.columns[flat]),
            "values": torch.from_numpy(self.values[flat]),
            "begins": torch.from_numpy(begins.astype(np.int32)),
        }


@dataclass(frozen=True)
class TfIdf:
    """Sublinear TF-IDF over hash buckets, of unit L2 norm: (1 + ln tf) · idf.

    ``buckets`` (columns,) int32, sorted, are the hash buckets in use: with 2^18 buckets words
    rarely collide, and only those met in training cost memory and time. ``idf`` (columns,)
    float32 is ln((1 + n)/(1 + df)) + 1.
    """

    features: int
    buckets: NDArray[np.int32]
    idf: NDArray[np.float32]

    @classmethod
    def fit(cls, texts: Sequence[str], features: int) -> TfIdf:
        """Keep the buckets met in two texts or more; all that were met where that leaves none."""
        counts = _counts(texts, features)
        frequency = np.bincount(counts.indices, minlength=features)
        least = 2 if (frequency >= 2).any() else 1
        buckets = np.flatnonzero(frequency >= least)
        if not len(buckets):
            buckets = np.zeros(1, np.int64)
        idf = np.log((1 + len(texts)) / (1 + frequency[buckets])) + 1
        return cls(features, buckets.astype(np.int32), idf.astype(np.float32))

    def rows(self, texts: Sequence[str]) -> SparseRows:
        """Return the texts as unit rows; a text without a known word is an empty row."""
        counts = _counts(texts, self.features)
        column = np.full(self.features, -1, np.int32)
        column[self.buckets] = np.arange(len(self.buckets), dtype=np.int32)
        columns = column[counts.indices]
        known = columns >= 0
        row = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))[known]
        columns = columns[known]
        values = (1 + np.log(counts.data[known])) * self.idf[columns].astype(np.float64)
        norm = np.sqrt(np.bincount(row, values * values, minlength=len(texts)))
        start = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=len(texts)), out=start[1:])
        return SparseRows(Ragged(start), columns, (values / norm[row]).astype(np.float32))


def _counts(texts: Sequence[str], features: int) -> sparse.csr_matrix:
    """Return how often each bucket's n-grams occur, (texts, features) with sorted columns."""
    if not texts:
        return sparse.csr_matrix((0, features))
    vectorizer = HashingVectorizer(
        n_features=features, ngram_range=(1, 2), alternate_sign=False, norm=None
    )
    counts: sparse.csr_matrix = sparse.csr_matrix(vectorizer.transform(list(texts)))
    counts.sort_indices()
    return counts


class BowNetwork(nn.Module):
    """A linear layer on sparse rows, or a hidden layer with ReLU and a linear layer on that.

    The linear model starts from zero, the uniform prediction.

    The sparse product sums the weight rows of a text's columns (an embedding bag), so no matrix
    (texts, columns) is ever made.
    """

    def __init__(self, columns: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(columns, hidden or labels))
        self.bias = nn.Parameter(torch.zeros(hidden or labels))
        self.out = nn.Linear(hidden, labels) if hidden else None
        if self.out is not None:
            nn.init.normal_(self.weight, std=HIDDEN_SPREAD)
            nn.init.zeros_(self.out.bias)

    def embed(self, columns: Tensor, values: Tensor, begins: Tensor) -> Tensor:
        """Return the hidden activations (batch, hidden)."""
        return F.relu(self._bag(columns, values, begins))

    def forward(self, columns: Tensor, values: Tensor, begins: Tensor) -> Tensor:
        """Return logits (batch, labels) of flat columns and values with each row's beginning."""
        if self.out is None:
            return self._bag(columns, values, begins)
        logits: Tensor = self.out(self.embed(columns, values, begins))
        return logits

    def _bag(self, columns: Tensor, values: Tensor, begins: Tensor) -> Tensor:
        bags = F.embedding_bag(columns, self.weight, begins, mode="sum", per_sample_weights=values)
        return bags + self.bias


@dataclass(frozen=True)
class BowClassifier:
    """TF-IDF features and the network on them; always on the CPU, where it is fast and exact."""

    labels: int
    features: TfIdf
    module: BowNetwork

    def inputs(self, texts: Sequence[str]) -> SparseRows:
        """Return the texts' TF-IDF rows."""
        return self.features.rows(texts)

    def logits(self, inputs: SparseRows, rows: Tensor | Rows) -> Tensor:
        """Return logits (batch, labels) float32 of the given row numbers."""
        logits: Tensor = self.module(**inputs.batch(as_rows(rows)))
        return logits

    def embeddings(self, inputs: SparseRows, rows: Tensor | Rows) -> Tensor:
        """Return hidden activations (batch, hidden) float32; :class:`ModelError` if hidden=0."""
        if self.module.out is None:
            raise ModelError(
                expected("model.hidden", 0, "be > 0 for embeddings to be released", "hidden = 64")
            )
        return self.module.embed(**inputs.batch(as_rows(rows)))

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write weights, buckets and idf, label names and a README into ``folder``."""
        names = check_names(label_names, self.labels)
        hidden = 0 if self.module.out is None else self.module.out.in_features
        write_card(
            folder, Card("bow", names, {"features": self.features.features, "hidden": hidden})
        )
        tables = {
            "features.buckets": to_tensor(self.features.buckets),
            "features.idf": to_tensor(self.features.idf),
        }
        write_weights(folder, {**self.module.state_dict(), **tables})


def build_bow(
    model: ResolvedModel, labels: int, *, seed: int, fit_text: Sequence[str]
) -> BowClassifier:
    """Return an untrained bag of words whose idf is that of ``fit_text``."""
    features = TfIdf.fit(fit_text, model.features)
    with forked_generator(seed_for(seed, "", 0, "initial weights")):
        module = BowNetwork(len(features.buckets), model.hidden, labels)
    return BowClassifier(labels, features, module)


def load_bow(folder: Path) -> BowClassifier:
    """Read what :meth:`BowClassifier.save` wrote."""
    card, tensors = read_card(folder), read_weights(folder)
    features = TfIdf(
        _count(card.values, "features"),
        tensors.pop("features.buckets").numpy(),
        tensors.pop("features.idf").numpy(),
    )
    with forked_generator(0):
        module = BowNetwork(len(features.buckets), _count(card.values, "hidden"), len(card.labels))
    module.load_state_dict(tensors)
    module.eval()
    return BowClassifier(len(card.labels), features, module)


def _count(values: Mapping[str, object], name: str) -> int:
    value = values.get(name)
    if not isinstance(value, int):
        raise ModelError(expected(f"fedkd.json: {name}", value, "be a count", "saving it anew"))
    return value

"""A frozen sentence encoder, its embeddings cached, and a small head on them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from fedkd.errors import ModelError, expected
from fedkd.models.defaults import ResolvedModel, defaults
from fedkd.models.determinism import best_device, forked_generator
from fedkd.models.folder import (
    Card,
    check_names,
    read_card,
    read_weights,
    write_card,
    write_weights,
)
from fedkd.models.inputs import Rows, Vectors, as_rows, reading_batches
from fedkd.models.pretrained import (
    load_config,
    load_model,
    load_tokenizer,
    local_folder,
    token_limit,
)
from fedkd.models.tokens import tokenise
from fedkd.progress import track
from fedkd.release import fingerprint
from fedkd.scenario import Model
from fedkd.seeds import seed_for

READING_BATCH = 64


@dataclass(frozen=True)
class SentenceEncoder:
    """Mean of a transformer's last hidden states over a text's tokens; never trained.

    ``identity`` is a hash of weights, tokenizer and ``max_tokens``: what embeddings depend on.
    """

    name: str
    tokenizer: Any
    body: torch.nn.Module
    max_tokens: int
    identity: str

    def encode(self, texts: Sequence[str], cache: Path | None = None) -> NDArray[np.float32]:
        """Return embeddings (n, dim) float32 in the order given.

        With a ``cache`` folder they are read from ``<hash of identity and texts>.npy`` where that
        file exists, and written there otherwise.
        """
        if cache is None:
            return self._compute(texts)
        key = hashlib.sha256(f"{self.identity}{fingerprint(texts)}".encode()).hexdigest()
        file = cache / f"{key}.npy"
        vectors = _read(file, len(texts))
        if vectors is None:
            vectors = self._compute(texts)
            _write(file, vectors)
        return vectors

    @property
    def width(self) -> int:
        """Width of the embeddings."""
        config: Any = self.body.config
        return int(config.hidden_size)

    def _compute(self, texts: Sequence[str]) -> NDArray[np.float32]:
        tokens = tokenise(self.tokenizer, texts, self.max_tokens)
        device = next(self.body.parameters()).device
        vectors = np.empty((len(texts), self.width), np.float32)
        batches = list(reading_batches(np.arange(len(texts)), tokens.lengths, READING_BATCH))
        with torch.inference_mode():
            for rows in track(batches, "Embedding texts"):
                batch = {name: value.to(device) for name, value in tokens.batch(rows).items()}
                states = self.body(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
                mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
                vectors[rows] = mean.float().cpu().numpy()
        return vectors


@lru_cache(maxsize=2)
def load_sentence_encoder(name: str, max_tokens: int) -> SentenceEncoder:
    """Return an encoder by hub name or local folder; the last two are kept for the next party.

    Raises :class:`ModelError` naming the missing file.
    """
    folder = local_folder(name)
    config = load_config(folder, name)
    tokenizer = load_tokenizer(folder, name)
    with forked_generator(0):
        body = load_model(AutoModel, folder, name, config).requires_grad_(False)
    limit = token_limit(tokenizer, config, max_tokens)
    return SentenceEncoder(
        name, tokenizer, body.to(best_device()), limit, _identity(tokenizer, body, limit)
    )


def embed_texts(name: str, texts: Sequence[str], cache: Path | None = None) -> NDArray[np.float64]:
    """Return embeddings (n, dim) float64 of texts, such as label names, by a named encoder."""
    settings = defaults(Model.model_validate({"model": "encoder", "name": name}))
    encoder = load_sentence_encoder(name, settings.max_tokens)
    return encoder.encode(texts, cache).astype(np.float64)


def _identity(tokenizer: Any, body: torch.nn.Module, max_tokens: int) -> str:
    digest = hashlib.sha256(f"mean/{max_tokens}/".encode())
    digest.update(body.config.to_json_string().encode())  # type: ignore[union-attr,operator]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = str(sorted(tokenizer.get_vocab().items())) if backend is None else backend.to_str()
    digest.update(vocabulary.encode())
    for name, tensor in sorted(body.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(file: Path, rows: int) -> NDArray[np.float32] | None:
    """Return the cached embeddings, or None where there are none or the file is damaged."""
    try:
        vectors: NDArray[np.float32] = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.ndim == 2 and len(vectors) == rows else None


def _write(file: Path, vectors: NDArray[np.float32]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        np.save(stream, vectors)
    temporary.replace(file)


class Head(nn.Module):
    """A linear layer, or a hidden layer with ReLU and a linear layer, on standardised vectors.

    Each vector is brought to mean 0 and variance 1, so one step size suits every encoder.
    """

    def __init__(self, width: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden) if hidden else None
        self.out = nn.Linear(hidden or width, labels)
        nn.init.zeros_(self.out.bias)
        if not hidden:
            nn.init.zeros_(self.out.weight)

    def embed(self, vectors: Tensor) -> Tensor:
        """Return the hidden activations (batch, hidden), or the standardised vectors."""
        vectors = F.layer_norm(vectors, vectors.shape[-1:])
        return vectors if self.hidden is None else F.relu(self.hidden(vectors))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits (batch, labels)."""
        logits: Tensor = self.out(self.embed(vectors))
        return logits


@dataclass(frozen=True)
class EncoderClassifier:
    """A shared frozen encoder and a head of one's own, the latter always on the CPU."""

    labels: int
    encoder: SentenceEncoder
    module: Head
    cache: Path | None = None

    def inputs(self, texts: Sequence[str]) -> Vectors:
        """Return the texts' embeddings, from the cache where they are there."""
        return Vectors(self.encoder.encode(texts, self.cache))

    def logits(self, inputs: Vectors, rows: Tensor | Rows) -> Tensor:
        """Return logits (batch, labels) float32 of the given row numbers."""
        logits: Tensor = self.module(**inputs.batch(as_rows(rows)))
        return logits

    def embeddings(self, inputs: Vectors, rows: Tensor | Rows) -> Tensor:
        """Return hidden activations (batch, hidden), or (batch, dim) for a linear head."""
        return self.module.embed(**inputs.batch(as_rows(rows)))

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write the head, label names, a README and which encoder it stands on."""
        names = check_names(label_names, self.labels)
        values = {
            "encoder": self.encoder.name,
            "encoder_identity": self.encoder.identity,
            "max_tokens": self.encoder.max_tokens,
            "hidden": 0 if self.module.hidden is None else self.module.hidden.out_features,
        }
        write_card(folder, Card("encoder", names, values))
        write_weights(folder, self.module.state_dict())


def build_encoder(
    model: ResolvedModel, labels: int, *, seed: int, cache: Path | None
) -> EncoderClassifier:
    """Return an untrained head on the encoder ``model.name``."""
    encoder = load_sentence_encoder(str(model.name), model.max_tokens)
    with forked_generator(seed_for(seed, "", 0, "initial weights")):
        module = Head(encoder.width, model.hidden, labels)
    return EncoderClassifier(labels, encoder, module, cache)


def load_encoder(folder: Path, cache: Path | None = None) -> EncoderClassifier:
    """Read a saved head and find its encoder: in ``folder/encoder``, else by its name.

    Raises :class:`ModelError` where the encoder is missing or is another one than in training.
    """
    card = read_card(folder)
    beside = folder / "encoder"
    name = str(beside) if beside.is_dir() else str(card.values.get("encoder"))
    encoder = load_sentence_encoder(name, int(card.values.get("max_tokens", 0)) or 1)
    if encoder.identity != card.values.get("encoder_identity"):
        raise ModelError(
            expected(
                "encoder", name, "be the one that the head was trained on",
                f"a copy of that encoder in {beside}",
            )
        )  # fmt: skip
    with forked_generator(0):
        module = Head(encoder.width, int(card.values.get("hidden", 0)), len(card.labels))
    module.load_state_dict(read_weights(folder))
    module.eval()
    return EncoderClassifier(len(card.labels), encoder, module, cache)

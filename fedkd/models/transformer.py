"""A transformer with a classification head, in the layout of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from fedkd.errors import ModelError, expected
from fedkd.models.defaults import ResolvedModel
from fedkd.models.determinism import best_device, forked_generator
from fedkd.models.folder import Card, check_names, read_card, write_card
from fedkd.models.inputs import Rows, as_rows
from fedkd.models.pretrained import (
    load_config,
    load_model,
    load_tokenizer,
    local_folder,
    quiet,
    token_limit,
)
from fedkd.models.tokens import TokenRows, tokenise, train_tokenizer
from fedkd.seeds import seed_for

_CODE = """import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "this folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder)
inputs = tokenizer(["a text"], padding=True, truncation=True, return_tensors="pt")
probabilities = torch.softmax(model(**inputs).logits, dim=-1)
print(model.config.id2label[int(probabilities[0].argmax())])"""


@dataclass(frozen=True)
class TransformerClassifier:
    """A tokenizer and a sequence classifier, on the GPU where there is one."""

    labels: int
    tokenizer: Any
    module: torch.nn.Module
    max_tokens: int

    def inputs(self, texts: Sequence[str]) -> TokenRows:
        """Return the texts' token ids."""
        return tokenise(self.tokenizer, texts, self.max_tokens)

    def logits(self, inputs: TokenRows, rows: Tensor | Rows) -> Tensor:
        """Return logits (batch, labels) of the given row numbers, on the module's device."""
        device = next(self.module.parameters()).device
        batch = {name: value.to(device) for name, value in inputs.batch(as_rows(rows)).items()}
        logits: Tensor = self.module(**batch).logits
        return logits

    def save(self, folder: Path, label_names: Sequence[str]) -> None:
        """Write config, safetensors and tokenizer, which plain transformers load."""
        names = check_names(label_names, self.labels)
        config: Any = self.module.config
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
        module: Any = self.module
        with quiet():
            module.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        write_card(folder, Card("transformer", names, {"max_tokens": self.max_tokens}), _CODE)


def build_transformer(
    model: ResolvedModel, labels: int, *, seed: int, public_text: Sequence[str]
) -> TransformerClassifier:
    """Return an untrained classifier: a named model with a new head, or a BERT drawn by seed.

    The tokenizer of a model without a name is trained on ``public_text``, never on private rows.
    Raises :class:`ModelError` where files are missing or there is no public text.
    """
    common: dict[str, Any] = {"num_labels": labels, "problem_type": "single_label_classification"}
    module: Any
    seed = seed_for(seed, "", 0, "initial weights")
    if model.name is not None:
        folder = local_folder(model.name)
        config = load_config(folder, model.name, **common)
        tokenizer = load_tokenizer(folder, model.name)
        config.pad_token_id = tokenizer.pad_token_id
        limit = token_limit(tokenizer, config, model.max_tokens)
        with forked_generator(seed):
            module = load_model(AutoModelForSequenceClassification, folder, model.name, config)
    else:
        limit = model.max_tokens
        tokenizer = train_tokenizer(public_text, model.vocabulary, limit)
        config = BertConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id,
            num_hidden_layers=model.layers, hidden_size=model.width,
            num_attention_heads=model.heads, intermediate_size=4 * model.width,
            max_position_embeddings=limit, type_vocab_size=1, **common,
        )  # fmt: skip
        with forked_generator(seed):
            module = BertForSequenceClassification(config)
    tokenizer.model_max_length = limit
    return TransformerClassifier(labels, tokenizer, module.eval().to(best_device()), limit)


def load_transformer(folder: Path) -> TransformerClassifier:
    """Read what :meth:`TransformerClassifier.save` wrote."""
    card = read_card(folder)
    limit = card.values.get("max_tokens")
    if not isinstance(limit, int):
        raise ModelError(expected("fedkd.json: max_tokens", limit, "be a count", "saving it anew"))
    name = str(local_folder(str(folder)))
    config = load_config(folder, name)
    with forked_generator(0):
        module = load_model(AutoModelForSequenceClassification, folder, name, config)
    tokenizer = load_tokenizer(folder, name)
    return TransformerClassifier(len(card.labels), tokenizer, module.to(best_device()), limit)

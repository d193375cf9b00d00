"""Token ids of texts, padded only to the longest text of a batch, and a tokenizer trained here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fedkd.errors import ModelError, expected
from fedkd.models.inputs import Ragged, Rows

SPECIAL = ("[PAD]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class TokenRows:
    """Token ids of all rows end to end (tokens,) int32; ``pad`` fills up a batch."""

    ragged: Ragged
    ids: NDArray[np.int32]
    pad: int

    def __len__(self) -> int:
        return len(self.ragged)

    @property
    def lengths(self) -> Rows:
        """Tokens of each row (n,)."""
        return self.ragged.sizes

    def batch(self, rows: Rows) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, both (batch, longest) int64."""
        sizes = self.lengths[rows]
        place = np.arange(max(int(sizes.max(initial=0)), 1))
        ids = np.full((len(rows), len(place)), self.pad, np.int64)
        flat, _ = self.ragged.gather(rows)
        ids[place < sizes[:, None]] = self.ids[flat]
        # A row of no tokens shows its padding, as attention over nothing is not a number.
        present = place < np.maximum(sizes, 1)[:, None]
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(present.astype(np.int64)),
        }


def tokenise(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> TokenRows:
    """Return the texts' token ids, each cut to ``max_tokens``."""
    rows: list[list[int]] = []
    if texts:
        rows = tokenizer(
            list(texts), truncation=True, max_length=max_tokens,
            return_attention_mask=False, return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
    start = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=start[1:])
    ids = np.fromiter((token for row in rows for token in row), np.int32, count=int(start[-1]))
    return TokenRows(Ragged(start), ids, tokenizer.pad_token_id or 0)


def train_tokenizer(texts: Sequence[str], vocabulary: int, max_tokens: int) -> Any:
    """Return a lower-casing byte-level BPE tokenizer trained on public texts.

    Byte-level BPE rather than WordPiece: no text is unknown to it, and the same texts give the
    same ids, where WordPiece's trainer orders its alphabet differently in every process.
    """
    if not any(text.strip() for text in texts):
        raise ModelError(
            expected(
                "public_text", list(texts)[:3], "hold text to train a tokenizer on",
                "a transfer set, or name = a local folder with a tokenizer",
            )
        )  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=max(vocabulary, len(alphabet) + len(SPECIAL)),
            special_tokens=list(SPECIAL),
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    pad, first, last = SPECIAL
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        pad_token=pad, cls_token=first, sep_token=last, model_max_length=max_tokens,
    )  # fmt: skip

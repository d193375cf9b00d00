"""A BERT with random weights in a folder: what a hub would give, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import BertConfig, BertModel

from fedkd.models.determinism import forked_generator
from fedkd.models.tokens import train_tokenizer


def write_tiny_bert(folder: Path, texts: Sequence[str]) -> str:
    """Write a BERT of width 32 and a tokenizer trained on ``texts``; return the folder's path."""
    tokenizer = train_tokenizer(texts, 300, 64)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    with forked_generator(7):
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)

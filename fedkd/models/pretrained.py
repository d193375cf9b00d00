"""Tokenizers and models in the layout of transformers, from a local folder or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from fedkd.errors import ModelError, expected

CONFIG = ("config.json",)
TOKENIZER = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_transformers_logging: Any = logging
WEIGHTS = (*SAFETENSORS, "pytorch_model.bin", "pytorch_model.bin.index.json")
_SMALL_FILES = ["*.json", "*.txt", "*.model"]


def local_folder(name: str) -> Path:
    """Return the folder that holds the model's config, tokenizer and weights.

    A name that is no folder is looked up on the Hugging Face hub, or in its cache when offline.
    Raises :class:`ModelError` naming the file that is missing and how to use a local copy.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        folder = path
    elif path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(expected("model.name", name, "be a folder that exists", _remedy(name)))
    else:
        folder = _download(name)
    for files in (CONFIG, TOKENIZER, WEIGHTS):
        if not any((folder / file).is_file() for file in files):
            found = f"{files[0]} (or {' or '.join(files[1:])})" if files[1:] else files[0]
            raise ModelError(expected("model.name", name, f"hold {found}", _remedy(name)))
    return folder


def load_tokenizer(folder: Path, name: str) -> Any:
    """Return the tokenizer in ``folder``; one without a padding token pads with its end token."""
    with quiet(), _explained(name, TOKENIZER[0]):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_config(folder: Path, name: str, **values: Any) -> Any:
    """Return the model's configuration with ``values`` laid over it."""
    with quiet(), _explained(name, CONFIG[0]):
        return AutoConfig.from_pretrained(folder, **values)


def load_model(kind: Any, folder: Path, name: str, config: Any) -> Any:
    """Return the float32 model of an ``AutoModel…`` class, in evaluation mode."""
    with quiet(), _explained(name, SAFETENSORS[0]):
        return kind.from_pretrained(
            folder, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        ).eval()


def token_limit(tokenizer: Any, config: Any, max_tokens: int) -> int:
    """Return ``max_tokens``, or what tokenizer and positions allow where that is less."""
    positions = getattr(config, "max_position_embeddings", None) or max_tokens
    return int(min(max_tokens, tokenizer.model_max_length, positions))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and printing load reports inside the block."""
    verbosity = _transformers_logging.get_verbosity()
    bars = _transformers_logging.is_progress_bar_enabled()
    _transformers_logging.set_verbosity_error()
    _transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        _transformers_logging.set_verbosity(verbosity)
        if bars:
            _transformers_logging.enable_progress_bar()


def _download(name: str) -> Path:
    try:
        return _snapshot(name)
    except (OSError, ValueError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            expected(
                "model.name", name,
                f"be a local folder or a model of the hub ({CONFIG[0]} is missing: {reason})",
                _remedy(name),
            )
        ) from error  # fmt: skip


def _snapshot(name: str) -> Path:
    """Fetch what is needed: safetensors, and PyTorch's own format only where there are none."""
    for weights in ("*.safetensors", "pytorch_model*.bin"):
        patterns = [*_SMALL_FILES, weights]
        folder = Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"]))
        if any((folder / file).is_file() for file in WEIGHTS):
            break
    return folder


@contextmanager
def _explained(name: str, file: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            expected("model.name", name, f"hold a readable {file} ({reason})", _remedy(name))
        ) from error


def _remedy(name: str) -> str:
    folder = Path(name).name or "model"
    return (
        f"name = './{folder}', a folder with {CONFIG[0]}, {TOKENIZER[0]} and {SAFETENSORS[0]}, as "
        f"`hf download {name if name.count('/') <= 1 else folder} --local-dir {folder}` makes it "
        "where the hub can be reached"
    )

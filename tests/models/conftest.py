"""Small texts, and a tiny BERT in a folder, for the tests of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedkd.models import classifier
from fedkd.scenario import Model
from tests.tiny_bert import write_tiny_bert

LABELS = ("bad", "fine", "good")
WORDS = (("awful", "broken", "poor"), ("usual", "plain", "middling"), ("lovely", "great", "superb"))


def sentences(count: int, seed: int = 0) -> tuple[list[str], NDArray[np.int64]]:
    """Texts of different lengths whose label shows in one word, and that label."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 3, count)
    filler = ["the", "thing", "that", "came", "in", "a", "box", "on", "monday"]
    texts = []
    for value in label:
        words = list(generator.choice(filler, generator.integers(1, 12)))
        words.insert(int(generator.integers(0, len(words) + 1)), generator.choice(WORDS[value]))
        texts.append(" ".join(words))
    return texts, label.astype(np.int64)


def make(model: Model, texts: Sequence[str], seed: int = 0, cache: Path | None = None):
    return classifier.build(
        model, len(LABELS), seed=seed, public_text=texts, fit_text=texts, cache=cache
    )


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a BERT of width 32 with random weights and its own tokenizer."""
    return write_tiny_bert(tmp_path_factory.mktemp("tiny-bert"), sentences(60)[0])


@pytest.fixture(params=["bow", "bow hidden", "encoder", "encoder hidden", "transformer", "named"])
def model(request: pytest.FixtureRequest, tiny_bert: str) -> Model:
    """Each kind of model, small and quick."""
    short = {"epochs": 12, "patience": 12, "batch_size": 8, "max_tokens": 32}
    own = {
        "bow": {"model": "bow"},
        "bow hidden": {"model": "bow", "hidden": 8},
        "encoder": {"model": "encoder", "name": tiny_bert},
        "encoder hidden": {"model": "encoder", "name": tiny_bert, "hidden": 8},
        "transformer": {
            "model": "transformer", "layers": 1, "width": 16, "heads": 2, "vocabulary": 300,
            "learning_rate": 0.01,
        },
        "named": {"model": "transformer", "name": tiny_bert, "learning_rate": 0.01},
    }  # fmt: skip
    return Model(**short, **own[request.param])

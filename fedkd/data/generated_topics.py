"""``generated:topics``: documents drawn from known topics, with classes, from a seed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.data.documents import Documents
from fedkd.seeds import numpy_generator

Floats = NDArray[np.float64]
NAME = "generated:topics"
SIZES = {"train": 1400, "val": 300, "test": 300}
MEAN_WORDS = 30
# A topic's words follow Zipf's law; COMMON of its mass goes to words that say nothing.
COMMON = 0.15
OWN, OTHER = 1.5, 0.04


@dataclass(frozen=True)
class Themes:
    """Words (V), topics (K, V), each class's Dirichlet parameters (classes, K), class names."""

    vocabulary: tuple[str, ...]
    topics: Floats
    concentration: Floats
    classes: tuple[str, ...]


def generated_topics(seed: int = 0) -> tuple[Documents, tuple[str, ...]]:
    """Draw 2,000 documents from ten topics over 220 words; return them and the vocabulary.

    Latent Dirichlet allocation (Blei et al., JMLR 2003) whose Dirichlet depends on the document's
    class: θ ~ Dir(α_class), each word w ~ Σ_k θ_k β_k, about 30 words a document (8 at least).
    Five classes, each leaning to two topics of its own. ``topics`` holds β (10, 220), rows sum
    to 1.
    """
    themes = _themes()
    draw = numpy_generator(seed, "topics", 0, "documents")
    splits = tuple(split for split, size in SIZES.items() for _ in range(size))
    labels = draw.integers(len(themes.classes), size=len(splits))
    words = np.array(themes.vocabulary)
    tokens = []
    for label in labels:
        theta = draw.dirichlet(themes.concentration[label])
        length = max(8, int(draw.poisson(MEAN_WORDS)))
        chance = theta @ themes.topics
        tokens.append(tuple(words[draw.choice(len(words), length, p=chance / chance.sum())]))
    places = tuple((NAME, row) for row in range(1, len(tokens) + 1))
    documents = Documents(
        tuple(tuple(map(str, row)) for row in tokens), splits, places,
        labels.astype(np.int64), themes.classes, topics=themes.topics,
    )  # fmt: skip
    return documents, themes.vocabulary


@cache
def _themes() -> Themes:
    text = Path(__file__).with_name("themes.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    themes: dict[str, list[str]] = values["themes"]
    vocabulary = tuple(sorted({*values["common"], *(w for own in themes.values() for w in own)}))
    place = {word: index for index, word in enumerate(vocabulary)}
    topics = np.zeros((len(themes), len(vocabulary)))
    for row, own in enumerate(themes.values()):
        topics[row, [place[word] for word in values["common"]]] = COMMON / len(values["common"])
        zipf = 1 / np.arange(2, len(own) + 2)
        topics[row, [place[word] for word in own]] = (1 - COMMON) * zipf / zipf.sum()
    names = list(themes)
    classes: dict[str, list[str]] = values["classes"]
    concentration = np.full((len(classes), len(names)), OTHER)
    for row, own in enumerate(classes.values()):
        concentration[row, [names.index(theme) for theme in own]] = OWN
    return Themes(vocabulary, topics, concentration, tuple(classes))

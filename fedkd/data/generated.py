"""``generated:moods``: a small corpus of feelings, made here from a grammar and a seed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkd.data.tables import Columns, Table
from fedkd.errors import DataError, expected
from fedkd.seeds import numpy_generator

SIZES = {"train": 4000, "test": 1000}
# Chosen so that a linear model of word n-grams trained on 2,000 rows is right about three times
# in four: NEARNESS spreads mood words over near emotions, TURNED is the share of negations and
# LEANING how much more often a domain speaks of its likely emotions.
NEARNESS = 0.37
TURNED = 0.2
LEANING = 3.0

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Domain:
    """What one walk of life talks about. ``words`` holds its mood words by emotion."""

    name: str
    share: float
    emotions: Weights
    slots: dict[str, tuple[str, ...]]
    words: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Grammar:
    """Emotions with their points and the chance (emotions, emotions) that one speaks for another.

    ``opposite`` gives the farthest emotion of each.
    """

    emotions: tuple[str, ...]
    coordinates: dict[str, tuple[float, ...]]
    near: Weights
    opposite: tuple[int, ...]
    domains: tuple[Domain, ...]
    plain: tuple[str, ...]
    turned: tuple[str, ...]


def moods(
    columns: Columns, seed: int = 0
) -> tuple[dict[str, Table], tuple[str, ...], dict[str, tuple[float, ...]]]:
    """Make the corpus; return its tables by split, emotion names and (valence, arousal) points.

    4,000 training and 1,000 test sentences, all different, over seven emotions and five domains
    (column ``domain``). Like any published set it is the same for every run seed. Raises
    :class:`DataError` for columns that it does not have.
    """
    for key, want in (("text", "text"), ("label", "label"), ("domain", "domain")):
        if getattr(columns, key) not in (want, None):
            raise DataError(
                expected(
                    f"data.{key}",
                    getattr(columns, key),
                    "be a column of generated:moods",
                    f"one of its: text, label, domain (data.{key} = {want!r})",
                )
            )
    grammar = _grammar()
    seen: set[str] = set()
    tables = {split: _table(grammar, split, rows, seed, seen) for split, rows in SIZES.items()}
    return tables, grammar.emotions, grammar.coordinates


def _table(grammar: Grammar, split: str, rows: int, seed: int, seen: set[str]) -> Table:
    draw = numpy_generator(seed, "moods", 0, split)
    shares = np.array([domain.share for domain in grammar.domains])
    text: list[str] = []
    label: list[int] = []
    names: list[str] = []
    while len(text) < rows:
        domain = grammar.domains[int(draw.choice(len(shares), p=shares / shares.sum()))]
        emotion = int(draw.choice(len(grammar.emotions), p=domain.emotions))
        sentence = _sentence(grammar, domain, emotion, draw)
        if sentence not in seen:
            seen.add(sentence)
            text.append(sentence)
            label.append(emotion)
            names.append(domain.name)
    return Table(
        origin=f"generated:moods {split}",
        text=tuple(text),
        label=tuple(label),
        domain=tuple(names),
        number=tuple(range(1, rows + 1)),
        columns=("text", "label", "domain"),
    )


def _sentence(grammar: Grammar, domain: Domain, emotion: int, draw: np.random.Generator) -> str:
    patterns = grammar.turned if draw.random() < TURNED else grammar.plain
    words = patterns[int(draw.integers(len(patterns)))].split(" ")
    for place, word in enumerate(words):
        if word in ("{m}", "{o}"):
            meant = grammar.opposite[emotion] if word == "{o}" else emotion
            spoken = int(draw.choice(len(grammar.emotions), p=grammar.near[meant]))
            words[place] = _pick(domain.words[spoken], draw)
        elif word in domain.slots:
            words[place] = _pick(domain.slots[word], draw)
    return " ".join(words)


def _pick(choices: tuple[str, ...], draw: np.random.Generator) -> str:
    return choices[int(draw.integers(len(choices)))]


@cache
def _grammar() -> Grammar:
    text = Path(__file__).with_name("moods.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    emotions = tuple(values["coordinates"])
    points = np.array([values["coordinates"][name] for name in emotions])
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    near = np.exp(-distance / NEARNESS)
    return Grammar(
        emotions=emotions,
        coordinates={name: tuple(point) for name, point in values["coordinates"].items()},
        near=near / near.sum(axis=1, keepdims=True),
        opposite=tuple(int(place) for place in distance.argmax(axis=1)),
        domains=tuple(
            _domain(name, entry, emotions, values["words"])
            for name, entry in values["domains"].items()
        ),
        plain=tuple(values["patterns"]["plain"]),
        turned=tuple(values["patterns"]["turned"]),
    )


def _domain(
    name: str, entry: dict[str, list[str]], emotions: tuple[str, ...], common: dict[str, list[str]]
) -> Domain:
    lean = np.array([LEANING if emotion in entry["likely"] else 1.0 for emotion in emotions])
    return Domain(
        name=name,
        share=float(entry["share"]),  # type: ignore[arg-type]  # the one number among lists
        emotions=lean / lean.sum(),
        slots={f"{{{slot[0]}}}": tuple(entry[slot]) for slot in ("nouns", "who")}
        | {"{t}": tuple(entry["when"])},
        words=tuple((*common[emotion], *entry[emotion] * 2) for emotion in emotions),
    )

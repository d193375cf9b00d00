"""How the answers of many teachers become one set of subclasses, or a head for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedkd.errors import ScenarioError, expected
from fedkd.intake import Intake
from fedkd.methods.method import Floats
from fedkd.seeds import numpy_generator
from fedkd.subclass.align import aligned_mean
from fedkd.subclass.basis import Rotation, rotation
from fedkd.subclass.landmarks import landmark_scores, landmarks
from fedkd.subclass.question import Question
from fedkd.subclass.split import Split, conditionals

PRECISION = {name: float(np.finfo(name).eps) for name in ("float16", "float32")}


def answers(intake: Intake, question: Question) -> list[Floats]:
    """Return every teacher's answer (rows, …) float64; NaN in rows that it did not deliver."""
    return [np.asarray(intake.further(p, question.name), np.float64) for p in intake.parties]


def mean_of_present(given: Sequence[Floats]) -> Floats:
    """Return the mean over the teachers that answered for a row; NaN where none did (A0)."""
    there = np.array([~np.isnan(answer).any(axis=(1, 2)) for answer in given], np.float64)
    total = np.sum([np.nan_to_num(answer) for answer in given], axis=0)
    count = there.sum(axis=0)[:, None, None]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, total / count, np.nan))


def split_here(intake: Intake, question: Question, consensus: Floats, split: Split) -> Floats:
    """Return r (rows, teachers, labels, S) of embeddings that the server splits (B1).

    A party has projected its embeddings before they left.
    """
    own = replace(split, null_projection=False)
    found = np.full((intake.rows, len(intake.parties), intake.labels, split.subclasses), np.nan)
    for place, (party, given) in enumerate(
        zip(intake.parties, answers(intake, question), strict=True)
    ):
        there = np.flatnonzero(~np.isnan(given).any(axis=1))
        if len(there):
            no_head = np.zeros((intake.labels, given.shape[1]))
            found[there, place] = conditionals(given[there], no_head, consensus[there], own, party)
    return found


def aligned(intake: Intake, question: Question, consensus: Floats, split: Split) -> Floats:
    """Return scores (rows, labels, S) of all teachers turned onto each other (A2).

    Rows that a teacher did not deliver are NaN, here and in :func:`joined`.
    """
    given = answers(intake, question)
    whole = np.flatnonzero(~np.any([np.isnan(a).any(axis=(1, 2)) for a in given], axis=0))
    found = np.full((intake.rows, intake.labels, split.subclasses), np.nan)
    if len(whole):
        shares, labels = [1 / len(given)] * len(given), range(intake.labels)
        each = [
            aligned_mean([z[whole, c] for z in given], shares, consensus[whole, c]) for c in labels
        ]
        found[whole] = turned(each, split)
    return found


def joined(intake: Intake, question: Question, consensus: Floats, split: Split) -> Floats:
    """Return scores (rows, labels, S) of embeddings side by side, from summed Grams (B2)."""
    files = [intake.further(party, question.name) for party in intake.parties]
    whole = np.flatnonzero(~np.any([np.isnan(file[:, 0, 0]) for file in files], axis=0))
    chosen = landmarks(intake.rows, question.split.landmarks, question.split.seed)
    known = np.isin(chosen, whole)
    found = np.full((intake.rows, intake.labels, split.subclasses), np.nan)
    if not known.any():
        return found
    places = np.searchsorted(whole, chosen[known])
    precision = PRECISION[files[0].dtype.name]
    each = []
    for label in range(intake.labels):
        total = np.zeros((len(whole), int(known.sum())))
        for file in files:
            total += np.asarray(file[:, label, :][whole][:, known], np.float64) / len(files)
        weights = consensus[whole, label]
        values = landmark_scores(total, places, weights, split.subclasses, precision)
        missing = split.subclasses - values.shape[1]
        each.append(np.pad(values, ((0, 0), (0, missing)), constant_values=-np.inf))
    found[whole] = turned(each, split)
    return found


def turned(each: Sequence[Floats], split: Split) -> Floats:
    """Return the scores (rows, labels, S) of every label after one rotation shared by all."""
    generator = numpy_generator(split.seed, "", 0, "shared rotation")
    found = []
    for values in each:
        known = int(np.isfinite(values[0]).sum())
        kind: Rotation = "random" if known & (known - 1) else split.rotation
        kind = "none" if split.rotation == "none" else kind
        full = values.copy()
        full[:, :known] = values[:, :known] @ rotation(known, kind, generator)
        found.append(full)
    return np.stack(found, axis=1)


def oracle(intake: Intake, consensus: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Return r of true fine labels: one-hot within the label that a fine label belongs to."""
    if intake.fine is None:
        raise ScenarioError(
            expected(
                "splitter", "oracle", "come with fine labels of the transfer rows",
                "data.domain = the column of fine labels, or another splitter",
            )
        )  # fmt: skip
    names, fine = np.unique(intake.fine, return_inverse=True)
    votes = np.stack([consensus[fine == index].mean(axis=0) for index in range(len(names))])
    owner = votes.argmax(axis=1)
    place = np.array([int((owner[:i] == label).sum()) for i, label in enumerate(owner)])
    count = int(np.bincount(owner).max())
    found = np.full((intake.rows, intake.labels, count), 1 / count)
    found[np.arange(intake.rows), owner[fine]] = np.eye(count)[place[fine]]
    return found[:, None], (f"true fine labels were used: {len(names)}, an upper bound",)


def reduced(intake: Intake, given: Sequence[Floats]) -> tuple[str, ...]:
    """Name the teachers and labels that had too few rows for every subclass."""
    notes = []
    for party, answer in zip(intake.parties, given, strict=True):
        used = (np.nan_to_num(answer).max(axis=0) > 0).sum(axis=1)
        notes += [
            f"{party}: label {label} has {count} of {answer.shape[2]} subclasses, for want of rows"
            for label, count in enumerate(used.tolist())
            if 0 < count < answer.shape[2]
        ]
    return tuple(notes)

"""Whom the membership attacks are tried on: private rows, and held-out rows with like labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedkd.data.rows import normal_form
from fedkd.seeds import numpy_generator

Columns = Mapping[str, Sequence[object]]


@dataclass(frozen=True)
class Suspects:
    """Row numbers of members and of as many non-members, ``label`` (2n,) members first."""

    members: NDArray[np.int64]
    nonmembers: NDArray[np.int64]
    label: NDArray[np.int64]


def choose_suspects(
    private: Columns,
    held_out: Columns,
    public: Sequence[str],
    *,
    most: int,
    seed: int,
    party: str,
) -> Suspects:
    """Return members among ``private`` and non-members among ``held_out``, matched by label.

    For every label as many of the one as of the other, drawn by seed, at most ``most`` a side.
    A text that is both private and held out, or public as well, counts as neither. Held-out rows
    are those that no teacher was trained on. Either side may be empty.
    """
    inside = [normal_form(str(text)) for text in private.get("text", ())]
    outside = [normal_form(str(text)) for text in held_out.get("text", ())]
    known = {normal_form(text) for text in public}
    both = (set(inside) & set(outside)) | known
    labels = [np.asarray(side.get("label", ()), np.int64) for side in (private, held_out)]
    draw = numpy_generator(seed, party, 0, "suspects")
    orders = [
        np.array([i for i in draw.permutation(len(texts)) if texts[i] not in both], np.int64)
        for texts in (inside, outside)
    ]
    pairs = []
    there = [own[order] for own, order in zip(labels, orders, strict=True)]
    for label in np.intersect1d(there[0], there[1]):
        sides = [order[own[order] == label] for own, order in zip(labels, orders, strict=True)]
        pairs.append([side[: min(map(len, sides))] for side in sides])
    if not pairs:
        empty = np.empty(0, np.int64)
        return Suspects(empty, empty, empty)
    members, nonmembers = (np.concatenate(side) for side in zip(*pairs, strict=True))
    if len(members) > most:
        # The same places of both sides, so that labels stay matched.
        kept = np.sort(draw.permutation(len(members))[:most])
        members, nonmembers = members[kept], nonmembers[kept]
    label = np.concatenate([labels[0][members], labels[1][nonmembers]])
    return Suspects(members, nonmembers, label)

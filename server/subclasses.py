"""What a method's subclasses are like: how much each is used, how rows lie, and public examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.files import slug, write_json
from fedkd.methods.method import Targets
from fedkd.run.folder import RunFolder

Floats = NDArray[np.float64]
EXAMPLES, MOST_POINTS, LONGEST = 3, 400, 160
FAINTEST = 1e-4


def write_subclasses(
    folder: RunFolder, key: str, targets: Targets, names: Sequence[str], texts: Sequence[str]
) -> None:
    """Write ``subclasses/<method>.json`` where a method's targets have subclasses.

    ``names`` are the teachers in the order of the heads; one head of all is called so. ``texts``
    are the transfer texts, which every party and the server know; none where they are no text.
    """
    if targets.layout.subclasses < 2:
        return
    fine = targets.tensors["fine"].double().numpy()
    probs = targets.probs.double().numpy()
    mass = fine.sum(axis=3, keepdims=True)
    inside = np.where(mass > 0, fine / np.where(mass > 0, mass, 1), 1 / fine.shape[3])
    heads = list(names) if fine.shape[1] == len(names) else ["all teachers"]
    label = int(probs.sum(axis=0).argmax())
    write_json(
        folder.root / "subclasses" / f"{slug(key)}.json",
        {
            "method": key,
            "heads": heads,
            "labels": list(targets.space.names),
            "usage": usage(inside, probs).round(4).tolist(),
            "map": {"head": 0, "label": label} | plane(inside[:, 0, label], probs[:, label]),
            "examples": [
                examples(inside[:, 0, place], probs[:, place], texts) if texts else []
                for place in range(probs.shape[1])
            ],
        },
    )


def usage(inside: Floats, probs: Floats) -> Floats:
    """Return the share of each subclass (heads, labels, S) among the rows of its label."""
    total = np.einsum("nhcs,nc->hcs", inside, probs)
    return np.asarray(total / np.maximum(probs.sum(axis=0)[:, None], np.finfo(float).tiny))


def plane(inside: Floats, share: Floats) -> dict[str, Any]:
    """Return one label's rows in the plane where its log r (rows, S) spread most.

    ``points`` are (x, y, likeliest subclass) of at most 400 rows that are likely of the label,
    ``arrows`` (S, 2) where each subclass pulls.
    """
    scores = np.log(np.maximum(inside, FAINTEST))
    scores -= scores.mean(axis=1, keepdims=True)
    mean = np.average(scores, axis=0, weights=share + np.finfo(float).tiny)
    centred = scores - mean
    _, _, axes = np.linalg.svd((centred * share[:, None]).T @ centred)
    axes = axes[:2]
    own = np.flatnonzero(share >= min(0.5, float(share.max())))
    chosen = own[np.linspace(0, len(own) - 1, min(MOST_POINTS, len(own))).round().astype(int)]
    points = centred[chosen] @ axes.T
    arrows = (np.eye(inside.shape[1]) - 1 / inside.shape[1]) @ axes.T
    best = inside[chosen].argmax(axis=1)
    return {
        "points": [
            [round(x, 3), round(y, 3), int(s)] for (x, y), s in zip(points, best, strict=True)
        ],
        "arrows": arrows.round(4).tolist(),
    }


def examples(inside: Floats, share: Floats, texts: Sequence[str]) -> list[list[str]]:
    """Return for each subclass the texts that lie furthest along it, those likely of its label.

    At most three; equals are ordered by how likely they are of the label.
    """
    own = np.flatnonzero(share >= min(0.5, float(share.max())))
    found = []
    for values in inside[own].T:
        order = np.lexsort((-share[own], -values))[:EXAMPLES]
        found.append([texts[row][:LONGEST] for row in own[order] if values.max() > 0])
    return found

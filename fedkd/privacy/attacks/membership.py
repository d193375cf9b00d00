"""Membership inference: was this labelled text among a party's private rows?

Each attack gives a score per suspect, higher for members. ``target`` (n, labels) holds the
party's answers on the suspects, ``label`` (n,) what the attacker knows their labels to be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FLOOR = 1e-6
# Below this many references a spread of each suspect's own is noise; all suspects share one.
FEWEST_FOR_SPREAD = 8


def scaled_confidence(probs: Floats, label: NDArray[np.int64]) -> Floats:
    """Return φ = ln p_y − ln Σ_{c≠y} p_c, (n,), the logit scaling of Carlini et al. 2022.

    The other labels are summed instead of taking 1 − p_y, which keeps what float16 keeps.
    """
    probs = np.asarray(probs, np.float64)
    rows = np.arange(len(probs))
    right = probs[rows, label]
    wrong = probs.sum(axis=1) - right
    return np.asarray(np.log(right + FLOOR) - np.log(np.maximum(wrong, 0) + FLOOR), np.float64)


def confidence_scores(target: Floats, label: NDArray[np.int64]) -> Floats:
    """Return the party's confidence in the known label (Yeom et al. 2018): no references."""
    return scaled_confidence(target, label)


def lira_scores(target: Floats, references: Floats, label: NDArray[np.int64]) -> Floats:
    """Return how far the confidence lies above what models without the row reach, in spreads.

    ``references`` (models, n, labels) are answers on the same suspects: those of the other
    parties in the co-operative attack, of models distilled from the target's own releases in the
    distilled one (Shi et al., PoPETs 2025). The mean is each suspect's own; so is the spread from
    eight references on, as in the offline attack of Carlini et al. 2022. Raises ValueError
    without references.
    """
    if not len(references):
        raise ValueError("Expected at least one reference model")
    own = scaled_confidence(target, label)
    out = np.stack([scaled_confidence(reference, label) for reference in references])
    gap = own - out.mean(axis=0)
    if len(references) < FEWEST_FOR_SPREAD:
        return np.asarray(gap, np.float64)
    spread = out.std(axis=0, ddof=1)
    return np.asarray(gap / (spread + 0.1 * (np.median(spread) + FLOOR)), np.float64)

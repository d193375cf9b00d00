"""Label-distribution inference: the mean answer over public text is a guess at the party's labels.

Shi et al., PoPETs 2025, use that mean as the attack itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedkd.privacy.inversion import invert_mean, invert_rows

Floats = NDArray[np.float64]
FLOOR = 1e-6


def label_inference(
    answers: Mapping[str, Floats],
    counts: Mapping[str, Floats],
    mechanisms: Mapping[str, str],
) -> dict[str, dict[str, float]]:
    """Return per party how far the guess is from its true label distribution.

    ``answers`` holds released probabilities (rows, labels) by party, ``counts`` the true label
    counts (labels,), ``mechanisms`` what was done to the answers, in the ledger's words.
    ``tv`` and ``kl`` (nats, truth against guess) are the attack's; ``tv_inverted`` and
    ``kl_inverted`` those after undoing the mechanism; ``uniform_…`` a uniform guess and
    ``constant_…`` the one guess for all parties whose mean KL is least, which is the mean of the
    parties' distributions. Lower than these means that the releases gave something away.
    """
    truth = {party: shares(counts[party]) for party in answers}
    if not truth:
        return {}
    population = np.asarray(np.mean(list(truth.values()), axis=0), np.float64)
    uniform = np.full(len(population), 1 / len(population))
    found = {}
    for party, probs in answers.items():
        raw = mean_answer(probs)
        mechanism = mechanisms.get(party, "none")
        undone = invert_mean(mean_answer(invert_rows(probs, mechanism)), mechanism)
        guesses = {"": raw, "_inverted": undone}
        own = {f"tv{end}": total_variation(truth[party], g) for end, g in guesses.items()}
        own |= {f"kl{end}": divergence(truth[party], g) for end, g in guesses.items()}
        for name, guess in (("uniform", uniform), ("constant", population)):
            own[f"{name}_tv"] = total_variation(truth[party], guess)
            own[f"{name}_kl"] = divergence(truth[party], guess)
        found[party] = own
    return found


def shares(counts: Floats) -> Floats:
    """Return counts (labels,) as a distribution; a party without rows counts as uniform."""
    counts = np.asarray(counts, np.float64)
    total = counts.sum()
    return counts / total if total > 0 else np.full(len(counts), 1 / len(counts))


def mean_answer(probs: Floats) -> Floats:
    """Return the mean of the rows (rows, labels), on the simplex."""
    return shares(np.maximum(np.asarray(probs, np.float64), 0).mean(axis=0))


def total_variation(truth: Floats, guess: Floats) -> float:
    """Return ½ Σ |t − g|, 0 to 1."""
    return float(np.abs(truth - guess).sum() / 2)


def divergence(truth: Floats, guess: Floats) -> float:
    """Return KL(truth ‖ guess) in nats, the guess floored at 1e-6."""
    kept = shares(guess + FLOOR)
    there = truth > 0
    return float((truth[there] * np.log(truth[there] / kept[there])).sum())

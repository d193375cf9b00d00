"""What a party does to its answers, and what that costs: one mechanism a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import PolicyError, expected
from fedkd.privacy.accountant import Event, calibrate, calibrate_response, check_budget
from fedkd.privacy.mechanisms import gaussian, hygiene, laplace, pate, randomised_response
from fedkd.privacy.noise import Stream
from fedkd.privacy.settings import Mechanism, Terms

Floats = NDArray[np.float64]


def answer_event(mechanism: Mechanism, rows: int, labels: int) -> Event | None:
    """Return what an answer for ``rows`` rows costs; None where answers are free or unguarded."""
    noise = mechanism.noise or 0.0
    match mechanism.name:
        case "pate":
            return pate.event(noise, rows)
        case "randomised-response":
            return randomised_response.event(mechanism.epsilon_each or 0.0, rows, labels)
        case "laplace":
            return laplace.event(noise, mechanism.clip, rows)
        case "gaussian":
            return gaussian.event(noise, mechanism.clip, rows)
        case _:
            return None


def applied(mechanism: Mechanism, probs: Floats, stream: Stream) -> Floats:  # noqa: PLR0911
    """Return what leaves in place of probabilities (rows, labels): again rows on the simplex."""
    noise = mechanism.noise or 0.0
    match mechanism.name:
        case "pate":
            return pate.noisy_votes(probs, mechanism.teachers or pate.TEACHERS, noise, stream)
        case "randomised-response":
            return randomised_response.randomised(probs, mechanism.epsilon_each or 0.0, stream)
        case "laplace":
            return laplace.noised(probs, noise, mechanism.clip, stream)
        case "gaussian":
            return gaussian.noised(probs, noise, mechanism.clip, stream)
        case "temperature":
            return hygiene.softened(probs, mechanism.temperature or 1.0)
        case "top-k":
            return hygiene.top_k(probs, mechanism.keep or 1)
        case "rounding":
            return hygiene.rounded(probs, mechanism.decimals or 1)
        case "argmax":
            return hygiene.top_label(probs)
        case "none" | "dp-sgd":
            return probs


def settled(terms: Terms, queries: int, labels: int) -> Terms:
    """Return the terms with the noise calibrated, so that ``queries`` answers use up epsilon.

    Private training is calibrated when it starts. Raises :class:`PolicyError` where neither noise
    nor a budget is given.
    """
    own = terms.mechanism
    if not own.per_release or own.noise is not None or own.epsilon_each is not None:
        return terms
    if terms.epsilon is None:
        raise PolicyError(
            expected("epsilon", None, f"be given for {own.name!r} without noise", "epsilon = 3")
        )
    check_budget(terms.epsilon, terms.delta)
    if own.name == "randomised-response":
        each = calibrate_response(queries, labels, terms.epsilon, terms.delta)
        found = own.model_copy(update={"epsilon_each": each})
    else:

        def whole(noise: float) -> Event:
            event = answer_event(own.model_copy(update={"noise": noise}), queries, labels)
            assert event is not None
            return event

        found = own.model_copy(update={"noise": calibrate(whole, terms.epsilon, terms.delta)})
    return terms.model_copy(update={"mechanism": found})

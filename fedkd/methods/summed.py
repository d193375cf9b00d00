"""Which methods live on the weighted sum of the teachers alone, and what a secure sum needs."""

from __future__ import annotations

from collections.abc import Sequence

from fedkd.errors import ScenarioError, expected
from fedkd.methods.method import Method
from fedkd.methods.weights import Scheme
from fedkd.privacy.masking import FEWEST_PARTIES
from fedkd.scenario import Scenario


def secure_weights(scenario: Scenario, methods: Sequence[Method]) -> Scheme | None:
    """Return the weights of the one secure sum, None where parties answer one by one.

    Raises :class:`ScenarioError` for a combination that would need, or give away, the answers of
    single parties.
    """
    if scenario.privacy is None or not scenario.privacy.secure_sum:
        return None
    for method in methods:
        reason = method.needs_each_teacher
        if reason is not None:
            raise ScenarioError(
                expected(
                    "privacy.secure_sum", True, f"suit {method.key!r}: {reason}",
                    "knot with objective = 'mixture', cross-entropy, sharpened-average, "
                    "kd with class_targets = 'mean', or secure_sum = false",
                )
            )  # fmt: skip
        if not method.normalise_weights:
            raise ScenarioError(
                expected(
                    "normalise_weights", False, f"be true for {method.key!r} with secure_sum",
                    "normalise_weights = true",
                )
            )  # fmt: skip
    schemes = list(dict.fromkeys(method.weights for method in methods))
    if len(schemes) > 1:
        raise ScenarioError(
            expected(
                "weights of the methods", schemes,
                "be alike with secure_sum, for several sums over the same answers can be solved "
                "for single ones",
                f"weights = {schemes[0]!r} everywhere",
            )
        )  # fmt: skip
    if scenario.parties.count < FEWEST_PARTIES:
        raise ScenarioError(
            expected(
                "parties.count", scenario.parties.count,
                f"be at least {FEWEST_PARTIES} with secure_sum, for of two each knows the other",
                "more parties",
            )
        )  # fmt: skip
    if schemes == ["bias"] and scenario.privacy.mechanism.per_release:
        raise ScenarioError(
            expected(
                "weights", "bias", "be others where every answer is noised, for no noise covers "
                "the bias vector in a secure sum", "weights = 'norm'",
            )
        )  # fmt: skip
    return schemes[0]


def over_the_sum(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Return the methods as they read the sum: its weights are in it already."""
    return tuple(
        method.model_copy(update={"weights": "uniform", "label": method.key}) for method in methods
    )

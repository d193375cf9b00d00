"""What a deployed party lets out: its own policy, with a scenario's stricter wishes laid over."""

from __future__ import annotations

from pathlib import Path

from fedkd.methods import parse_methods
from fedkd.privacy.mechanisms import settled
from fedkd.privacy.policy import check_terms, read_policy, stricter
from fedkd.privacy.settings import Terms
from fedkd.scenario import Scenario
from fedkd.topics.method import check_plain_terms


def agreed_terms(
    folder: Path, scenario: Scenario, name: str, *, rows: int, transfer_rows: int, labels: int
) -> Terms:
    """Return the terms under which the party whose folder this is answers a scenario.

    Raises :class:`~fedkd.errors.PolicyError` for a policy that does not parse, and for a scenario
    that asks for what it forbids.
    """
    own = read_policy(folder) or Terms()
    asked = Terms() if scenario.privacy is None else scenario.privacy.for_party(-1, name)
    terms = stricter(own, asked)
    check_terms(terms, rows)
    if scenario.topics is not None:
        check_plain_terms(terms)
        return terms
    biased = any(method.weights == "bias" for method in parse_methods(scenario.method))
    return settled(terms, transfer_rows + biased, labels)

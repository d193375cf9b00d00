"""Checks of a scenario's methods, of classifiers and of topic models alike."""

from __future__ import annotations

from fedkd.methods import parse_methods
from fedkd.methods.summed import secure_weights
from fedkd.scenario import Scenario
from fedkd.topics.method import check_plain, parse_topic_methods


def check_methods(scenario: Scenario) -> None:
    """Raise :class:`~fedkd.errors.ScenarioError` for a method that cannot be."""
    if scenario.topics is not None:
        parse_topic_methods(scenario.method)
        check_plain(scenario)
    else:
        secure_weights(scenario, parse_methods(scenario.method))

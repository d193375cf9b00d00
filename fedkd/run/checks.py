"""What a scenario may ask for: its methods of either kind, and what real machines can do."""

from __future__ import annotations

from fedkd.errors import DeployError, expected
from fedkd.methods import parse_methods
from fedkd.methods.summed import secure_weights
from fedkd.scenario import Scenario
from fedkd.topic_scenario import Topics
from fedkd.topics.method import check_plain, parse_topic_methods


def check_methods(scenario: Scenario) -> None:
    """Raise :class:`~fedkd.errors.ScenarioError` for a method that cannot be."""
    if scenario.topics is not None:
        parse_topic_methods(scenario.method)
        check_plain(scenario)
    else:
        secure_weights(scenario, parse_methods(scenario.method))


def check_deployable(scenario: Scenario) -> None:
    """Raise :class:`DeployError` for a sweep: parties would pay for every arm.

    Also for ``topics.whole``, where every document is public: parties have documents of their own.
    """
    if scenario.privacy is not None and scenario.privacy.arm:
        raise DeployError(
            "Expected privacy.arm to be absent in a deployment: each arm spends budget anew. "
            "Try one [privacy] table without arms."
        )
    if scenario.topics is not None and scenario.topics.whole:
        raise DeployError(
            expected("topics.whole", True, "be false in a deployment, whose parties have documents "
                     "of their own", "whole = false, or `fedkd run` on one machine")
        )  # fmt: skip


def companion_notes(topics: Topics) -> tuple[str, ...]:
    """Return the warning that companions are left out, where the scenario asks for some."""
    if not topics.companions:
        return ()
    asked = ", ".join(topics.companions)
    return (f"companions ({asked}) need pooled private documents: none on real machines",)

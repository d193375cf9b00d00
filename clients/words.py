"""What telling words costs a party, and whether it may be spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedkd.errors import BudgetError, expected
from fedkd.privacy.accountant import Event, delta_of, epsilon_rdp, event_of
from fedkd.privacy.ledger import Account
from fedkd.privacy.mechanisms.laplace_threshold import NAME, UNIT
from fedkd.privacy.settings import Terms

ROUNDING = 1e-9


def words_cost(event: Event, **parameters: float) -> dict[str, Any]:
    """Return what a list of words says of its own cost, for the gate to add up."""
    return {"event": event.values(), "parameters": parameters}


def words_account(
    cost: Mapping[str, Any], before: Iterable[Event], terms: Terms | None, *, repeated: bool
) -> Account:
    """Return the account of a list of words; the totals are of all lists of the party alone.

    ``repeated`` bytes cost nothing more. Raises :class:`BudgetError` where all lists together would
    spend more than the policy's ``words_epsilon`` and ``delta``.
    """
    event = event_of(dict(cost["event"]))
    spent = [one for one in before if one.name == NAME] + ([] if repeated else [event])
    delta = delta_of(spent)
    epsilon = epsilon_rdp(spent, delta)
    if terms is not None and terms.words_epsilon is not None:
        for name, after, cap in (
            ("epsilon of all words told", epsilon, terms.words_epsilon),
            ("delta of all words told", delta, terms.delta),
        ):
            if after > cap * (1 + ROUNDING):
                raise BudgetError(
                    expected(name, f"{after:.4g}", f"be at most the party's cap of {cap:g}",
                             "going on without this party")
                )  # fmt: skip
    told = None if repeated else event.values()
    return Account(NAME, cost["parameters"], UNIT, delta, told, epsilon, epsilon)

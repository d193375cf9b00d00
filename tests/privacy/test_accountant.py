"""What releases cost: laws that every accountant keeps, closed forms, and the library's traps."""

from __future__ import annotations

import math

import dp_accounting as dp
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from fedkd.errors import FedkdError
from fedkd.privacy.accountant import (
    Event,
    calibrate,
    calibrate_response,
    epsilon_pld,
    epsilon_rdp,
    event_of,
    response_keeps,
)

DELTA = 1e-5
EVENTS = {
    "gaussian": Event("gaussian", 8.0),
    "laplace": Event("laplace", 10.0),
    "randomised-response": Event("randomised-response", 0.3, labels=4),
    "sampled-gaussian": Event("sampled-gaussian", 2.0, rate=0.1),
}


def times(event: Event, count: int) -> Event:
    return event_of(event.values() | {"count": count})


@pytest.mark.parametrize("name", EVENTS)
def test_renyi_is_above_pld_is_above_a_single_use_and_both_grow(name):
    event, last_rdp, last_pld = EVENTS[name], 0.0, 0.0
    single = epsilon_pld([event], DELTA)
    assert single is not None
    for count in (1, 2, 5, 20, 80):
        rdp, tight = (
            epsilon_rdp([times(event, count)], DELTA),
            epsilon_pld([times(event, count)], DELTA),
        )
        assert tight is not None
        assert rdp >= tight >= single - 1e-9
        assert rdp >= last_rdp and tight >= last_pld
        last_rdp, last_pld = rdp, tight
    assert last_pld > single


@pytest.mark.parametrize("name", EVENTS)
def test_several_entries_cost_what_one_entry_of_as_many_costs(name):
    whole = epsilon_rdp([times(EVENTS[name], 12)], DELTA)
    parts = [times(EVENTS[name], 5), times(EVENTS[name], 7)]
    assert epsilon_rdp(parts, DELTA) == pytest.approx(whole, rel=1e-12)
    assert epsilon_pld(parts, DELTA) == pytest.approx(
        epsilon_pld([times(EVENTS[name], 12)], DELTA), rel=1e-6
    )


def exact_gaussian(noise: float, delta: float) -> float:
    """Balle and Wang 2018, Theorem 8, solved for epsilon."""

    def gap(epsilon: float) -> float:
        shift = epsilon * noise
        first = norm.cdf(0.5 / noise - shift)
        return first - math.exp(epsilon + norm.logcdf(-0.5 / noise - shift)) - delta

    return float(brentq(gap, 1e-9, 60.0))


@settings(deadline=None, max_examples=15)
@given(st.floats(0.5, 20), st.integers(1, 200))
def test_gaussian_meets_its_closed_form(scale, count):
    event = Event("gaussian", scale * math.sqrt(count), count)
    exact = exact_gaussian(scale, DELTA)
    assert epsilon_pld([event], DELTA) == pytest.approx(exact, rel=2e-3, abs=2e-3)
    assert epsilon_rdp([event], DELTA) >= exact - 1e-9


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_pure_mechanisms_meet_their_closed_form(epsilon):
    """At a delta of nearly nothing, one Laplace of scale 1/ε or one response of ε costs ε."""
    for event in (
        Event("laplace", 1 / epsilon),
        Event("randomised-response", epsilon, labels=4),
    ):
        assert epsilon_pld([event], 1e-12) == pytest.approx(epsilon, rel=1e-3, abs=2e-4)
        assert epsilon_rdp([event], 1e-12) >= epsilon - 1e-6


def test_randomised_response_composes():
    """The measured values of 100 binary answers at epsilon 1: 53.65 by PLD, 56.1 by Renyi."""
    answers = Event("randomised-response", 1.0, 100, labels=2)
    assert epsilon_rdp([answers], DELTA) > 50
    few = times(answers, 30)
    single = epsilon_pld([times(answers, 1)], DELTA)
    together = epsilon_pld([few], DELTA)
    assert single is not None and together is not None
    assert together > 10 * single


def test_the_library_still_counts_a_repeated_response_once():
    """Fails once dp-accounting mends its PLD accountant: then drop the way around it."""
    noise = 2 * (1 - response_keeps(1.0, 2))
    event = dp.RandomizedResponseDpEvent(noise, 2)
    accountant = pld.PLDAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    accountant.compose(event, 100)
    assert accountant.get_epsilon(DELTA) == pytest.approx(1.0, rel=1e-2)


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("name", ["gaussian", "laplace", "sampled-gaussian"])
def test_calibration_uses_the_budget_and_no_more(name, epsilon):
    def make(noise: float) -> Event:
        return Event(name, noise, 100, rate=0.1 if name == "sampled-gaussian" else 0.0)

    noise = calibrate(make, epsilon, DELTA)
    assert 0.98 * epsilon <= epsilon_rdp([make(noise)], DELTA) <= epsilon


def test_calibrated_responses_use_the_budget_and_no_more():
    each = calibrate_response(500, 4, 3.0, DELTA)
    spent = epsilon_rdp([Event("randomised-response", each, 500, labels=4)], DELTA)
    assert 2.9 < spent <= 3.0


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0.0, DELTA), (-1.0, DELTA), (3.0, 0.0), (3.0, 1.0)]
)
def test_budgets_that_mean_nothing_are_refused(epsilon, delta):
    with pytest.raises(FedkdError, match="Expected"):
        calibrate(lambda noise: Event("gaussian", noise), epsilon, delta)


def test_mixed_relations_cost_at_least_each_alone():
    gaussian, response = Event("gaussian", 4.0), Event("randomised-response", 0.5, labels=3)
    both = epsilon_rdp([gaussian, response], DELTA)
    assert both > max(epsilon_rdp([gaussian], DELTA), epsilon_rdp([response], DELTA))
    assert epsilon_rdp([], DELTA) == 0.0

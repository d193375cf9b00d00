"""Intervals over seeds against scipy."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from fedkd.errors import DataError
from fedkd.metrics.intervals import interval, paired_difference, paired_differences

numbers = st.floats(-10, 10).map(lambda x: round(x, 3))


@given(st.lists(numbers, min_size=2, max_size=12, unique=True))
def test_interval_is_scipys(values: list[float]) -> None:
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values)
    )
    assert interval(values).bounds == pytest.approx((low, high))
    assert interval(values).seeds == len(values)


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=10, unique_by=lambda p: p))
def test_paired_interval_excludes_zero_where_the_t_test_rejects(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    differences = [x - y for x, y in pairs]
    assume(max(differences) - min(differences) > 1e-6)
    p = stats.ttest_rel(a, b).pvalue
    assume(abs(p - 0.05) > 1e-9)
    assert paired_difference(a, b).excludes_zero == (p < 0.05)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=10))
def test_swapping_the_sides_of_a_pair_swaps_the_answer(pairs: list[tuple[float, float]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.interval.mean == pytest.approx(-back.interval.mean)
    assert (there.lower, there.higher) == (back.higher, back.lower)


def test_one_seed_has_no_interval_and_excludes_nothing() -> None:
    assert interval([0.5]).half_width is None
    assert interval([0.5]).bounds is None
    assert not paired_difference([0.9], [0.1]).excludes_zero


def test_equal_differences_have_an_interval_of_no_width() -> None:
    found = paired_difference([1.5, 2.5], [1.0, 2.0])
    assert found.interval.half_width == 0
    assert found.excludes_zero
    assert (found.lower, found.higher) == (0, 2)


def test_differences_from_a_named_baseline_leave_it_out() -> None:
    found = paired_differences({"ce": [1.0, 2.0], "knot": [0.0, 3.0]}, "ce")
    assert set(found) == {"knot"}
    assert (found["knot"].lower, found["knot"].higher) == (1, 1)
    with pytest.raises(DataError, match="baseline='kd'"):
        paired_differences({"ce": [1.0]}, "kd")


def test_no_seed_is_refused() -> None:
    with pytest.raises(DataError, match="seeds=0"):
        interval([])

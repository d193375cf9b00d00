from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkd.data.partition import Share, partition
from fedkd.data.rows import Rows, largest_remainder
from fedkd.errors import DataError
from fedkd.scenario import Parties

DOMAINS = ("books", "dvd", "kitchen")
KINDS = [
    {"by": "iid"},
    {"by": "quantity"},
    {"by": "shards"},
    {"by": "dirichlet", "alpha": 0.3},
    {"by": "domain"},
]


def rows(count: int, seed: int, prefix: str = "row") -> Rows:
    draw = np.random.default_rng(seed)
    return Rows(
        tuple(f"{prefix} {n}" for n in range(count)),
        draw.integers(0, 3, size=count),
        tuple(DOMAINS[int(n)] for n in draw.choice(3, size=count, p=[0.5, 0.3, 0.2])),
    )


def deal(private: Rows, test: Rows, kind: dict[str, Any], count: int, **more: Any) -> list[Share]:
    parties = Parties(count=count, partition=kind, **more)  # type: ignore[arg-type]
    return list(partition(private, test, parties, 0))


def texts(given: Rows, index: np.ndarray) -> set[str]:
    return set(given.take(index).text)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.integers(1, 7), st.integers(1, 120), st.integers(0, 9))
def test_shares_are_disjoint_and_named_apart(kind, count, size, seed) -> None:
    private, test = rows(size, seed), rows(30, seed + 1, "test")
    try:
        shares = deal(private, test, kind, count)
    except DataError as error:
        assert size < 60, str(error)
        return
    assert len({share.name for share in shares}) == len(shares) == count
    train = np.concatenate([share.train for share in shares])
    tested = np.concatenate([share.test for share in shares])
    assert all(len(share.train) for share in shares)
    assert len(np.unique(train)) == len(train)
    assert len(np.unique(tested)) == len(tested)
    spare = 0 if kind["by"] != "shards" else 2 * count - 1
    assert size - spare <= len(train) <= size
    if kind["by"] != "domain":
        assert len(tested) == len(test)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["by"])
def test_shares_do_not_depend_on_the_order_of_rows(kind: dict[str, Any]) -> None:
    private, test = rows(200, 0), rows(60, 1, "test")
    mixed = private.take(np.random.default_rng(5).permutation(200))
    there, back = deal(private, test, kind, 5), deal(mixed, test, kind, 5)
    assert [s.name for s in there] == [s.name for s in back]
    for one, other in zip(there, back, strict=True):
        assert texts(private, one.train) == texts(mixed, other.train)
        assert texts(test, one.test) == texts(test, other.test)


def test_the_test_mix_follows_the_training_mix() -> None:
    private, test = rows(3000, 0), rows(900, 1, "test")
    for share in deal(private, test, {"by": "dirichlet", "alpha": 0.5}, 4):
        for label in range(3):
            held = (private.label[share.train] == label).sum() / (private.label == label).sum()
            judged = (test.label[share.test] == label).sum()
            assert abs(judged - held * (test.label == label).sum()) <= 1


@pytest.mark.parametrize("order", [("dvd", "books"), ("books", "dvd")])
def test_a_named_domain_gets_the_same_rows_wherever_it_stands(order: tuple[str, ...]) -> None:
    private, test = rows(100, 0), rows(40, 1, "test")
    shares = deal(private, test, {"by": "domain"}, 2, names=order)
    assert [share.name for share in shares] == list(order)
    for share in shares:
        assert share.train.tolist() == [n for n in range(100) if private.domain[n] == share.name]
        assert share.test.tolist() == [n for n in range(40) if test.domain[n] == share.name]


def test_too_few_parties_merge_domains_and_too_many_cut_the_largest() -> None:
    private, test = rows(300, 0), rows(60, 1, "test")
    names = [share.name for share in deal(private, test, {"by": "domain"}, 2)]
    assert names == ["books", "dvd+kitchen"]
    shares = deal(private, test, {"by": "domain"}, 5)
    assert [s.name for s in shares] == ["books-0", "books-1", "dvd-0", "dvd-1", "kitchen"]
    books = np.concatenate([share.train for share in shares[:2]])
    assert {private.domain[n] for n in books} == {"books"}
    assert abs(len(shares[0].train) - len(shares[1].train)) <= 1


def test_party_numbers_are_padded_and_quantity_grows_linearly() -> None:
    shares = deal(rows(660, 0), rows(10, 1, "test"), {"by": "quantity"}, 11)
    assert [s.name for s in shares][:2] == ["party-00", "party-01"]
    assert [len(share.train) for share in shares] == [10 * n for n in range(1, 12)]


def test_names_that_no_file_system_takes_are_replaced() -> None:
    private = Rows(("a", "b"), np.zeros(2, np.int64), ("health/care", ".."))
    names = [share.name for share in deal(private, private, {"by": "domain"}, 2)]
    assert names == ["domain", "health-care"]


def test_what_cannot_be_dealt_is_an_error() -> None:
    private, test = rows(10, 0), rows(5, 1, "test")
    with pytest.raises(DataError, match=r"parties\.count=11 .* 10"):
        deal(private, test, {"by": "iid"}, 11)
    with pytest.raises(DataError, match=r"larger alpha"):
        deal(private, test, {"by": "dirichlet", "alpha": 0.01}, 9)
    with pytest.raises(DataError, match=r"fewer shards"):
        deal(private, test, {"by": "shards", "shards": 3}, 5)
    with pytest.raises(DataError, match=r"fewer parties"):
        deal(private, test, {"by": "quantity"}, 9)
    with pytest.raises(DataError, match=r"'toys'.*books, dvd, kitchen"):
        deal(rows(50, 0), test, {"by": "domain"}, 2, names=("toys", "dvd"))
    blank = Rows(("a", "b"), np.zeros(2, np.int64), ("", "x"))
    with pytest.raises(DataError, match=r"data\.domain="):
        deal(blank, test, {"by": "domain"}, 2)


@given(st.integers(0, 1000), st.lists(st.integers(0, 50), min_size=1, max_size=9))
def test_largest_remainder_shares_all_within_one_of_the_exact_share(total, weights) -> None:
    parts = largest_remainder(total, weights)
    assert sum(parts) == total and min(parts) >= 0
    if sum(weights):
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - total * weight / sum(weights)) < 1

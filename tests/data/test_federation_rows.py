from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fedkd.data.federation import Federation, split_federation
from fedkd.data.rows import normal_form

MOODS = {"source": "generated:moods", "domain": "domain", "transfer": {"rows": 1000}}


def texts(federation: Federation, part: str) -> list[str]:
    return [text for party in federation.parties for text in getattr(party, part).text]


def check_laws(federation: Federation) -> None:
    train, test = ({normal_form(t) for t in texts(federation, p)} for p in ("train", "test"))
    transfer = {normal_form(text) for text in federation.transfer.text}
    assert not transfer & train and not transfer & test
    assert len(transfer) == len(federation.transfer)
    for party in federation.parties:
        for rows in (party.train, party.test):
            assert len(rows.text) == len(rows.label) == len(rows.domain)


@pytest.mark.parametrize("by", ["iid", "dirichlet", "shards", "quantity", "domain"])
def test_a_federation_keeps_its_laws(scenario, by: str) -> None:
    kind = {"by": by} | ({"alpha": 0.5} if by == "dirichlet" else {})
    federation = split_federation(scenario(MOODS, {"count": 4, "partition": kind}), 0)
    check_laws(federation)
    assert not [t for t, n in Counter(texts(federation, "train")).items() if n > 1]
    assert len(federation.transfer) == 1000 and federation.coordinates is not None
    assert set(federation.coordinates) == set(federation.labels)
    assert len(texts(federation, "test")) == 1000


def test_the_order_of_names_changes_nothing_but_the_order(scenario) -> None:
    names = ["work", "food", "music"]
    there, back = (
        split_federation(
            scenario(MOODS, {"count": 3, "names": order, "partition": {"by": "domain"}}), 0
        )
        for order in (names, names[::-1])
    )
    assert [party.name for party in there.parties] == names
    assert there.transfer.text == back.transfer.text
    for one, other in zip(there.parties, reversed(back.parties), strict=True):
        assert (one.name, one.train.text, one.test.text) == (
            other.name,
            other.train.text,
            other.test.text,
        )
    assert any("private rows belong to no party" in text for text in there.warnings)


def test_another_seed_is_another_split(scenario) -> None:
    asked = scenario(MOODS, {"count": 3})
    one, other = (split_federation(asked, seed) for seed in (0, 1))
    assert one.transfer.text != other.transfer.text
    assert one.parties[0].train.text != other.parties[0].train.text


def test_an_answer_is_kept_until_a_file_changes(write, scenario) -> None:
    rows = [(f"row {n}", "ab"[n % 2]) for n in range(40)]
    asked = scenario({"source": str(write("a.csv", rows)), "transfer": {"rows": 5}}, {"count": 2})
    first = split_federation(asked, 0)
    assert split_federation(asked, 0) is first
    write("a.csv", [*rows, ("a new row", "a")])
    second = split_federation(asked, 0)
    held = [*texts(second, "train"), *texts(second, "test"), *second.transfer.text]
    assert sorted(held) == sorted([*(text for text, _ in rows), "a new row"])


def test_thin_parties_and_leaks_are_counted(write, scenario) -> None:
    train = [(f"good {n}", "good", "shop") for n in range(9)] + [("bad", "bad", "club")]
    test = [("Good 1", "good", "shop"), ("so so", "bad", "bar")]
    header = ("text", "label", "domain")
    source = str(write("a/train.csv", train, header).parent)
    write("a/test.csv", test, header)
    pool = str(write("pool.csv", [("public", "")]))
    data = {"source": source, "domain": "domain", "transfer": {"source": pool}}
    asked = scenario(data, {"count": 2, "partition": {"by": "domain"}})
    notes = " | ".join(split_federation(asked, 0).warnings)
    for part in (
        "1 test rows have the text of a private training row",
        "1 test rows belong to no party (1 in 'bar')",
        "2 of 2 parties hold rows of one label only: club, shop",
        "1 of 2 parties hold fewer than 2 rows, the number of labels: club",
        "1 of 2 parties have no test rows: club",
    ):
        assert part in notes


def test_the_real_federations_keep_the_laws(real_data: Path, scenario) -> None:
    domains = {"by": "domain"}
    stars = scenario(
        {"source": "amazon_stars", "domain": "domain", "transfer": {"rows": 1600}},
        {"count": 4, "partition": domains},
    )
    sst = scenario(
        {"source": "sst5", "transfer": {"rows": 2000}},
        {"count": 5, "partition": {"by": "dirichlet", "alpha": 0.5}},
    )
    talk = scenario(
        {"source": ["meld", "dailydialog"], "domain": "source", "transfer": {"rows": 2000}},
        {"count": 2, "partition": domains},
        {"rename": {"joy": "happiness"}},
    )
    for asked in (stars, sst, talk):
        check_laws(split_federation(asked, 0))
    assert split_federation(stars, 0).values == (1.0, 2.0, 4.0, 5.0)
    union = split_federation(talk, 0)
    assert union.labels[3] == "happiness" and union.coordinates is not None
    assert union.coordinates["happiness"] == (0.9, 0.2)
    assert [party.name for party in union.parties] == ["dailydialog", "meld"]

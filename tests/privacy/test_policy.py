"""A party's policy: what parses, what is refused, and that a scenario can only be stricter."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedkd.errors import PolicyError, ScenarioError
from fedkd.privacy.policy import check_terms, read_policy, stricter, write_policy
from fedkd.privacy.settings import Privacy, Terms
from fedkd.privacy.wording import guarantee, not_claimed
from tests.system.small import small

BAD = {
    "syntax": ("unit = 'record'\nepsilon = = 3\n", "line 2"),
    "unknown key": ("unit = 'record'\nepsilom = 3\n", "policy.toml:2"),
    "epsilon zero": ("epsilon = 0\nmechanism = { name = 'dp-sgd' }\n", "policy.toml:1"),
    "epsilon negative": ("mechanism = { name = 'dp-sgd' }\nepsilon = -2\n", "policy.toml:2"),
    "delta one": ("delta = 1\n", "policy.toml:1"),
    "unit": ("unit = 'record'\nmechanism = { name = 'laplace' }\n", "unit='record'"),
    "other unit": ("unit = 'party'\nmechanism = { name = 'dp-sgd' }\n", "unit='party'"),
    "no such mechanism": ("mechanism = { name = 'magic' }\n", "policy.toml:1"),
    "parameter": ("mechanism = { name = 'dp-sgd', temperature = 2 }\n", "temperature"),
    "missing parameter": ("mechanism = { name = 'top-k' }\n", "keep"),
    "uncovered": (
        "epsilon = 3\nmechanism = { name = 'dp-sgd' }\nrequests = ['answer', 'evaluate']\n",
        "policy.toml:3",
    ),
    "bytes": ("\xff", "policy.toml"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_policy_that_cannot_be_read_names_the_line(name, tmp_path: Path):
    text, told = BAD[name]
    (tmp_path / "policy.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(PolicyError, match="Expected") as error:
        read_policy(tmp_path)
    assert told in str(error.value) and "Try" in str(error.value)


def test_a_policy_is_read_as_it_was_written(tmp_path):
    assert read_policy(tmp_path) is None
    terms = Terms(
        epsilon=3, delta=1e-6, mechanism={"name": "pate", "noise": 20}, most_rows=10,
        near_duplicates=0.0, requests=("describe", "train", "answer"),
    )  # fmt: skip
    write_policy(tmp_path, terms)
    assert read_policy(tmp_path) == terms


@pytest.mark.parametrize(
    ("terms", "rows", "told"),
    [
        (Terms(epsilon=3), 100, "bound epsilon"),
        (Terms(epsilon=3, mechanism={"name": "argmax"}), 100, "bound epsilon"),
        (Terms(epsilon=3, delta=0.01, mechanism={"name": "dp-sgd"}), 100, "1 / rows"),
        (Terms(minimum_rows=50), 49, "minimum_rows=50"),
    ],
)
def test_terms_that_mean_nothing_for_a_party_are_refused(terms, rows, told):
    with pytest.raises(PolicyError, match=told):
        check_terms(terms, rows)


def test_a_scenario_can_only_be_stricter():
    own = Terms(epsilon=3, delta=1e-6, most_rows=100, mechanism={"name": "gaussian", "noise": 2})
    asked = Terms(
        epsilon=9, delta=1e-5, most_rows=5000, minimum_rows=7, requests=("answer",),
        mechanism={"name": "gaussian", "noise": 1},
    )  # fmt: skip
    both = stricter(own, asked)
    assert (both.epsilon, both.delta, both.most_rows, both.minimum_rows) == (3, 1e-6, 100, 7)
    assert both.mechanism.noise == 2 and both.requests == ("answer",)
    stronger = Terms(epsilon=1, mechanism={"name": "gaussian", "noise": 5})
    assert stricter(own, stronger).epsilon == 1
    assert stricter(own, stronger).mechanism.noise == 5
    assert stricter(own, Terms()).mechanism == own.mechanism


def test_a_scenario_that_asks_for_another_mechanism_or_unit_is_refused():
    own = Terms(epsilon=3, mechanism={"name": "dp-sgd"})
    with pytest.raises(PolicyError, match="dp-sgd"):
        stricter(own, Terms(mechanism={"name": "argmax"}))
    with pytest.raises(PolicyError, match="unit"):
        stricter(Terms(unit="record"), Terms(unit="party"))
    with pytest.raises(PolicyError, match="accepts"):
        stricter(Terms(accepts=("dp-sgd",)), Terms(mechanism={"name": "laplace"}))
    assert stricter(Terms(accepts=("dp-sgd",)), own).mechanism.name == "dp-sgd"


@pytest.mark.parametrize(
    "privacy",
    [
        {"epsilon": 0},
        {"delta": 1.5},
        {"unit": "record", "mechanism": {"name": "laplace"}},
        {"arm": [{"name": "x"}, {"name": "x"}]},
        {"unit": "record", "arm": [{"name": "x", "mechanism": {"name": "gaussian"}}]},
        {"epsilom": 3},
    ],
)
def test_a_scenario_with_impossible_privacy_is_refused(privacy, tmp_path):
    with pytest.raises(ScenarioError, match=r"Expected|unknown|Try"):
        small(tmp_path, privacy=privacy)


def test_overrides_reach_their_party_and_no_table_keeps_the_configuration(tmp_path):
    privacy = Privacy(
        epsilon=3,
        mechanism={"name": "dp-sgd"},
        override=[{"parties": [1], "epsilon": 1}, {"parties": ["c"], "minimum_rows": 9}],
    )
    assert privacy.for_party(0, "a").epsilon == 3
    assert privacy.for_party(1, "b").epsilon == 1
    assert privacy.for_party(2, "c").minimum_rows == 9
    plain, private = small(tmp_path), small(tmp_path, privacy={"delta": 1e-6})
    assert plain.config_hash != private.config_hash
    assert plain.privacy is None


def test_words_claim_what_is_proved_and_no_more():
    assert "No formal" in guarantee(Terms())
    assert "undone" in guarantee(Terms(mechanism={"name": "temperature", "temperature": 2}))
    text = guarantee(Terms(epsilon=3, mechanism={"name": "dp-sgd"}))
    assert "epsilon 3" in text and "one training record" in text
    claims = " ".join(not_claimed(Privacy(epsilon=3, mechanism={"name": "pate"})))
    assert "not publishable" in claims and "number of private rows" in claims
    assert "Without a guarantee" in " ".join(not_claimed(None))

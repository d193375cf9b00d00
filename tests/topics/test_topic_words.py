"""Words told under a guarantee: sensitivity, threshold, secret noise, ledger and cap."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from clients.party import Party, open_party
from clients.topics import TopicParty, topic_party
from clients.words import words_account, words_cost
from fedkd.errors import BudgetError, PolicyError, QuorumError
from fedkd.files import read_json, read_rows
from fedkd.privacy.accountant import Event, epsilon_pld, epsilon_rdp
from fedkd.privacy.compare import check_agreement, compare_ledgers, print_ledger
from fedkd.privacy.epsilon import promised
from fedkd.privacy.ledger import read_ledger
from fedkd.privacy.noise import NoiseKey
from fedkd.privacy.policy import stricter, write_policy
from fedkd.privacy.settings import Terms
from fedkd.release import fingerprint
from fedkd.run.engine import run_scenario
from fedkd.run.prepare import prepare_run
from fedkd.topics.vocabulary import WordNoise, document_frequencies, tell_words, unpack_words
from tests.topics.small_run import small_topics

VOCABULARY = {"epsilon": 40.0, "delta": 1e-6, "cap": 20}
QUORUM = {"count": 3, "quorum": 2, "partition": {"by": "iid"}}


def stream(seed: int):
    return NoiseKey(seed, "a", b"").stream("vocabulary", "")


def texts_of(seed: int, count: int = 30) -> list[str]:
    draw = np.random.default_rng(seed)
    return [
        " ".join(f"w{i}" for i in draw.zipf(1.3, draw.integers(0, 15)) % 40) for _ in range(count)
    ]


def test_without_epsilon_the_counts_are_exact():
    texts = texts_of(0)
    counts = document_frequencies(texts)
    assert tell_words(texts, least=3) == {w: counts[w] for w in sorted(counts) if counts[w] >= 3}


@pytest.mark.parametrize("cap", [1, 3, 50])
def test_a_document_changes_at_most_cap_counts_by_one(cap):
    texts = texts_of(1)
    whole = document_frequencies(texts, cap)
    for row in range(len(texts)):
        less = document_frequencies(texts[:row] + texts[row + 1 :], cap)
        gone = {word: whole[word] - less[word] for word in whole if whole[word] != less[word]}
        assert len(gone) <= cap and set(gone.values()) <= {1} and not set(less) - set(whole)


@pytest.mark.parametrize(("delta", "cap"), [(0.2, 4), (0.4, 1)])
def test_words_of_one_document_leave_with_delta_at_most(delta, cap):
    """Each of its words passes with δ/cap, so any of them with 1 − (1 − δ/cap)^cap."""
    noise = WordNoise(1.0, delta, cap)
    texts = [" ".join(f"own{i}" for i in range(cap + 2))] + ["common"] * 5
    tries = 6000
    left = sum(
        any(word.startswith("own") for word in tell_words(texts, least=1, noise=(noise, stream(s))))
        for s in range(tries)
    )
    chance = 1 - (1 - delta / cap) ** cap
    deviation = (chance * (1 - chance) / tries) ** 0.5
    assert chance <= delta
    assert abs(left / tries - chance) < 4 * deviation


def test_counts_that_leave_have_laplace_noise_of_cap_over_epsilon():
    noise = WordNoise(2.0, 1e-6, 10)
    texts = ["every word here"] * 1000
    off = [
        count - 1000
        for seed in range(400)
        for count in tell_words(texts, least=5, noise=(noise, stream(seed))).values()
    ]
    assert len(off) == 1200
    assert abs(np.mean(np.abs(off)) / 5 - 1) < 0.12 and abs(np.mean(off)) < 0.8


def test_a_larger_anonymous_count_holds_with_noise_too():
    noise = WordNoise(100.0, 1e-6, 1)
    assert noise.threshold < 5
    assert tell_words(["a"] * 9, least=20, noise=(noise, stream(0))) == {}
    assert "a" in tell_words(["a"] * 9, least=5, noise=(noise, stream(0)))


def telling(folder, **card) -> dict[str, int]:
    """Return the words that a simulated party tells, or one with another card."""
    party = open_party(folder)
    party = Party(folder, replace(party.card, **card))
    own = TopicParty(party, topic_party(party).card)
    release = own.tell_words({"transfer_id": fingerprint(party.texts("transfer"))})
    counts = release.arrays["frequencies"].tolist()
    return dict(zip(unpack_words(release.arrays["words"]), counts, strict=True))


def test_a_deployed_party_s_secret_makes_the_noise(tmp_path):
    one, two = (
        prepare_run(small_topics(tmp_path / name, topics={"vocabulary": VOCABULARY}), 0).party(0)
        for name in "ab"
    )
    simulated = telling(one)
    assert telling(two) == simulated
    first, again, other = (telling(folder, deployed=True) for folder in (one, one, two))
    assert first == again
    assert simulated != first != other != simulated


def test_other_documents_never_meet_the_same_noise(tmp_path):
    folder = prepare_run(small_topics(tmp_path, topics={"vocabulary": VOCABULARY}), 0).party(0)
    texts = read_rows(folder / "private.jsonl")["text"]
    found = []
    for kept in (texts, texts[:-1]):
        rows = [json.dumps({"text": text, "label": 0}) + "\n" for text in kept]
        (folder / "private.jsonl").write_text("".join(rows), encoding="utf-8")
        exact = document_frequencies(kept, 20)
        found.append({word: count - exact[word] for word, count in telling(folder).items()})
    both = sorted(set(found[0]) & set(found[1]))
    assert len(both) > 50
    # Rounded noise of scale 0.5 is often alike; the same noise would always be.
    assert sum(found[0][word] == found[1][word] for word in both) < 0.7 * len(both)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return run_scenario(small_topics(out, topics={"vocabulary": VOCABULARY})).seeds[0]


def test_both_ledgers_say_what_the_words_cost_and_that_the_rest_is_not_covered(done, capsys):
    server = read_ledger(done.root / "ledger.jsonl")
    own = [e for p in done.parties.iterdir() for e in read_ledger(p / "ledger.jsonl")]
    for side in (server, own):
        told = [e for e in side if "frequencies" in e["arrays"]]
        assert len(told) == 3
        for entry in told:
            assert (entry["mechanism"], entry["unit"]) == ("laplace-threshold", "document")
            assert (entry["epsilon_rdp"], entry["delta"]) == (40.0, 1e-6)
            assert entry["epsilon_spent"] == 40.0 and entry["parameters"]["cap"] == 20
            assert entry["event"] == {
                "name": "laplace-threshold", "noise": 1 / 40, "count": 1, "delta": 1e-6
            }  # fmt: skip
            assert "the words told alone" in entry["plain"]
        rest = [e for e in side if e["arrays"] and "frequencies" not in e["arrays"]]
        assert rest and all(e["epsilon_rdp"] is None and e["event"] is None for e in rest)
        assert all("no guarantee" in e["plain"] for e in rest)
    assert set(promised(server).values()) == {None}
    comparison = compare_ledgers(done.root)
    check_agreement(comparison)
    print_ledger(comparison)
    printed = capsys.readouterr().out
    assert printed.count("no guarantee: epsilon 40 at delta 1e-06 per document covers a part") == 3


def test_the_released_frequencies_are_the_noisy_ones_of_the_threshold(done):
    least = WordNoise(**VOCABULARY).threshold
    for folder in done.parties.iterdir():
        counts = telling(folder)
        exact = document_frequencies(read_rows(folder / "private.jsonl")["text"], 20)
        assert min(counts.values()) >= round(least) > 5
        assert 0 < sum(counts[name] == exact[name] for name in counts) < len(counts)
        stored = done.intake / read_json(folder / "party.json")["name"] / "words.npz"
        with np.load(stored) as arrays:
            assert arrays["frequencies"].tolist() == list(counts.values())


REFUSED = {
    "cap": ({"words_epsilon": 39.0}, "BudgetError", "party's cap of 39"),
    "delta": ({"words_epsilon": 40.0, "delta": 1e-7}, "BudgetError", "delta of all words told"),
    "everything": ({"epsilon": 100.0}, "PolicyError", "words_epsilon"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_party_whose_cap_is_below_is_left_out_and_the_round_goes_on(name, tmp_path):
    terms, error, told = REFUSED[name]
    scenario = small_topics(tmp_path, parties=QUORUM, topics={"vocabulary": VOCABULARY})
    folder = prepare_run(scenario, 0)
    write_policy(folder.party(1), Terms(**terms))
    run_scenario(scenario)
    reasons = [e["reason"] for e in folder.records("events") if e["event"] == "unusable reply"]
    assert reasons and all(error in r and told in r for r in reasons)
    result = read_json(folder.result)
    assert "teacher/party-1" not in result["references"]
    assert {"teacher/party-0", "teacher/party-2"} <= set(result["references"])
    mine = folder.party(1) / "ledger.jsonl"
    assert not mine.is_file() or not [e for e in read_ledger(mine) if e["arrays"]]


def test_a_cap_on_words_is_kept_exactly_and_needs_noise(tmp_path):
    privacy = {"words_epsilon": 40.0}
    scenario = small_topics(tmp_path / "kept", privacy=privacy, topics={"vocabulary": VOCABULARY})
    assert run_scenario(scenario).seeds[0].done
    with pytest.raises(QuorumError, match="vocabulary"):
        run_scenario(small_topics(tmp_path / "bare", privacy=privacy))
    folder = prepare_run(scenario, 0).party(0)
    card = read_json(folder / "topics.json")
    card["vocabulary"]["delta"] = 0.1
    (folder / "topics.json").write_text(json.dumps(card))
    with pytest.raises(PolicyError, match="1 / documents"):
        telling(folder)


def test_lists_add_up_and_a_repeated_one_costs_nothing():
    event = Event("laplace-threshold", 10.0, delta=1e-6)
    cost, terms = words_cost(event, epsilon=0.1), Terms(words_epsilon=0.3, delta=3e-6)
    twice = words_account(cost, [event], terms, repeated=False)
    assert twice.epsilon_rdp == pytest.approx(0.2) and twice.delta == pytest.approx(2e-6)
    third = words_account(cost, [replace(event, count=2)], terms, repeated=False)
    assert third.epsilon_rdp == pytest.approx(0.3)
    for before in ([replace(event, count=3)], [event, event, event]):
        with pytest.raises(BudgetError, match=r"cap of 0\.3"):
            words_account(cost, before, terms, repeated=False)
        again = words_account(cost, before, terms, repeated=True)
        assert again.event is None and again.epsilon_rdp == pytest.approx(0.3)
    others = [Event("gaussian", 1.0, 5)]
    assert words_account(cost, others, terms, repeated=False).epsilon_rdp == pytest.approx(0.1)


def test_lists_compose_with_other_releases_by_addition():
    lists, gaussian = Event("laplace-threshold", 2.0, 2, delta=1e-6), Event("gaussian", 5.0, 3)
    for account in (epsilon_rdp, epsilon_pld):
        assert account([lists], 2e-6) == pytest.approx(1.0)
        both = account([lists, gaussian], 1e-5)
        assert both == pytest.approx(1.0 + account([gaussian], 8e-6))
    assert epsilon_rdp([lists, gaussian], 2e-6) == epsilon_rdp([lists], 1e-6) == float("inf")
    assert epsilon_pld([lists, gaussian], 2e-6) is None


def test_a_scenario_can_only_lower_the_cap_on_words():
    own = Terms(words_epsilon=2.0)
    assert stricter(own, Terms()).words_epsilon == 2.0
    assert stricter(own, Terms(words_epsilon=3.0)).words_epsilon == 2.0
    assert stricter(own, Terms(words_epsilon=1.0)).words_epsilon == 1.0
    assert stricter(Terms(), Terms(words_epsilon=1.0)).words_epsilon == 1.0

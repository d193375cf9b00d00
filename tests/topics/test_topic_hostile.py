"""Parties that answer with what an honest one never would: left out, and the round goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord, RecordDict

import clients.topics
from fedkd.errors import ReleaseError
from fedkd.files import read_json
from fedkd.release import Release
from fedkd.run.engine import run_scenario
from fedkd.run.wire import FACTS, METRICS, content_release, metrics_figures
from fedkd.topics.release import check_measured, check_trained, check_words
from fedkd.topics.upload import decode_top, encode_top
from server.topics import TopicTalk
from tests.topics.small_run import small_topics


def arrays(**changed):
    def spoil(release):
        return replace(
            release, arrays=release.arrays | {k: f(release.arrays[k]) for k, f in changed.items()}
        )

    return spoil


def figures(**changed):
    return lambda own: own | changed


def packed(text: str):
    return lambda release: replace(
        release,
        arrays={
            "words": np.frombuffer(text.encode(), np.uint8),
            "frequencies": np.full(text.count("\n") + 1, 9, np.uint32),
        },
    )


def first_twice(words):
    return np.concatenate([words[:, :1], words[:, :1], words[:, 2:]], axis=1)


HOSTILE = {  # what each party does, and what the server says of it
    "party-02": ("tell_words", packed("same\nsame"), "words=2"),
    "party-03": ("tell_words", packed("clear\x1b[2Jscreen"), "control"),
    "party-04": ("tell_words", arrays(frequencies=lambda a: a.astype(np.int64)), "frequen"),
    "party-05": ("train", figures(topics=10**9), "topics=1000000000"),
    "party-06": ("train", figures(kl=float("nan")), "kl"),
    "party-07": ("train", lambda own: {"rows": 10}, "topics=None"),
    "party-08": ("summary", arrays(top_words=first_twice), "twice"),
    "party-09": ("summary", arrays(background=lambda a: -a), "simplex"),
    "party-10": ("answer", arrays(range=lambda a: np.full_like(a, 60_000)), "range=60000"),
    "party-11": ("answer", arrays(log_variance=lambda a: a + 40), "log_variance"),
    "party-12": ("answer", arrays(mean=lambda a: np.full_like(a, np.nan)), "finite"),
    "party-13": ("answer", arrays(ids=lambda a: a[:, ::-1]), "rise"),
    "party-14": ("answer", lambda release: replace(release, label_id="0" * 64), "label_id"),
    "party-15": ("answer", arrays(mean=lambda a: a[:, :-1]), "float16"),
}


def test_hostile_answers_are_refused_with_a_reason_and_the_round_goes_on(tmp_path, monkeypatch):
    def spoilt(name, honest):
        def handler(self, fields):
            own = honest(self, fields)
            stage, spoil, _ = HOSTILE.get(self.party.card.name, ("", None, ""))
            return spoil(own) if stage == name else own

        return handler

    for name in ("tell_words", "train", "summary", "answer"):
        honest = getattr(clients.topics.TopicParty, name)
        monkeypatch.setattr(clients.topics.TopicParty, name, spoilt(name, honest))
    measure = clients.topics.TopicParty.evaluate

    def boast(self, fields):
        bad = {"log_likelihood": 1.0} if self.party.card.name == "party-01" else {}
        return measure(self, fields) | bad

    monkeypatch.setattr(clients.topics.TopicParty, "evaluate", boast)
    scenario = small_topics(
        tmp_path,
        parties={"count": 16, "quorum": 2, "partition": {"by": "iid"}},
        method=[{"name": "topics", "latent": 0.1}],
        run={"out": str(tmp_path), "block_rows": 200, "backoff": 0.0, "retries": 0},
    )
    folder = run_scenario(scenario).seeds[0]
    found = {e["party"]: e["reason"] for e in folder.records("events") if "reason" in e}
    for party, (_, _, says) in HOSTILE.items():
        assert says in found[party], (party, found[party])
    assert "log_likelihood" in found["party-01"]
    references = read_json(folder.result)["references"]
    assert set(references) == {"teacher/party-00", "teacher/party-01"}
    assert "perplexity" not in references["teacher/party-01"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"topics": 1.0},
        {"topics": 41.0},
        {"topics": 2.5},
        {"rows": float("inf")},
        {"words": -1.0},
        {"empty": float("nan")},
    ],
)
def test_figures_of_training_are_whole_and_finite(wrong):
    own = {"rows": 9.0, "topics": 4.0, "words": 40.0, "empty": 0.0, "kl": 1.5}
    check_trained(own, 40)
    with pytest.raises(ReleaseError, match=next(iter(wrong))):
        check_trained(own | wrong, 40)


@pytest.mark.parametrize(
    "wrong",
    [
        {"log_likelihood": float("-inf"), "words": 3.0},
        {"log_likelihood": -1e9, "words": 3.0},
        {"log_likelihood": 0.5, "words": 3.0},
        {"own_words": 3.0},
        {"upload_kl": float("nan")},
    ],
)
def test_figures_of_measuring_are_those_of_a_model(wrong):
    check_measured({"log_likelihood": -20.0, "words": 3.0, "upload_kl": 0.1})
    check_measured({})
    with pytest.raises(ReleaseError):
        check_measured(wrong)


def test_counts_without_a_shape_are_refused():
    told = {"words": np.frombuffer(b"one", np.uint8), "frequencies": np.array(3, np.uint32)}
    with pytest.raises(ReleaseError, match="frequencies"):
        check_words(Release("statistic", told, "t", "l", (0, 0)), "t", "l")


def test_records_of_another_kind_are_a_rejection():
    for content in (
        RecordDict({METRICS: ConfigRecord({"a": 1})}),
        RecordDict({METRICS: MetricRecord({"a": [1.0, 2.0]})}),
    ):
        with pytest.raises(ReleaseError):
            metrics_figures(content)
    metric = RecordDict({FACTS: MetricRecord({"a": 1}), "release.arrays": MetricRecord({"a": 1})})
    with pytest.raises(ReleaseError):
        content_release(metric, "x")


def test_whatever_the_codes_say_words_off_the_support_stay_at_zero():
    draw = np.random.default_rng(0)
    q = draw.dirichlet(np.full(20, 0.3), 15)
    q[:, ::2] = 0
    q /= q.sum(axis=1, keepdims=True)
    base = q.mean(axis=0).astype(np.float32)
    top = encode_top(q, base, 20)
    for codes in (top.codes, np.full_like(top.codes, 255), np.zeros_like(top.codes)):
        for width in (top.range, np.full_like(top.range, 100)):
            back = decode_top(replace(top, codes=codes, range=width), base)
            assert (back[:, ::2] == 0).all()
            np.testing.assert_allclose(back.sum(axis=1), 1, rtol=1e-5)


def test_a_party_cannot_push_out_a_word_by_boasting(tmp_path, monkeypatch):
    asked = small_topics(tmp_path / "plain", topics={"vocabulary": {"most": 0.9}})
    plain = read_json(run_scenario(asked).seeds[0].topics_sealed(0))["vocabulary"]
    told = TopicTalk.words

    def boast(self, parties):
        there = told(self, parties)
        own = type(self.store).told

        def louder(store, party):
            found = own(store, party)
            return dict.fromkeys(found, 10**9) if found and party == "party-1" else found

        monkeypatch.setattr(type(self.store), "told", louder)
        return there

    monkeypatch.setattr(TopicTalk, "words", boast)
    loud = small_topics(tmp_path / "loud", topics={"vocabulary": {"most": 0.9}})
    assert read_json(run_scenario(loud).seeds[0].topics_sealed(0))["vocabulary"] == plain

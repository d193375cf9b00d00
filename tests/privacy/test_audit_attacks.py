"""The attacks find what was planted, and nothing where nothing is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedkd.privacy.attacks.embeddings import nearest, nearest_private
from fedkd.privacy.attacks.identification import identification
from fedkd.privacy.attacks.label_distribution import label_inference
from fedkd.privacy.attacks.membership import confidence_scores, lira_scores
from fedkd.privacy.attacks.scoring import auc
from fedkd.privacy.audit import Questioned, bounds, broken_promises, membership
from fedkd.privacy.epsilon import mechanisms, promised
from fedkd.privacy.inversion import parameter
from fedkd.privacy.suspects import choose_suspects


def simplex(seed: int, *shape: int, sharp: float = 1.0):
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], sharp), shape[:-1])


def test_label_inference_reads_off_the_mean():
    counts = {"a": np.array([60.0, 30, 10]), "b": np.array([10.0, 30, 60])}
    told = {name: np.tile(c / c.sum(), (50, 1)) for name, c in counts.items()}
    found = label_inference(told, counts, {})
    assert found["a"]["tv"] == pytest.approx(0, abs=1e-12)
    assert found["a"]["kl"] == pytest.approx(0, abs=1e-5)
    assert found["a"]["tv_inverted"] == found["a"]["tv"]
    assert found["a"]["uniform_tv"] == pytest.approx(0.6 - 1 / 3)
    assert found["a"]["constant_tv"] == pytest.approx(0.25)
    blind = label_inference({name: np.full((50, 3), 1 / 3) for name in counts}, counts, {})
    assert blind["a"]["tv"] == pytest.approx(blind["a"]["uniform_tv"])


def test_temperature_is_undone():
    probs = np.random.default_rng(0).dirichlet([4, 2, 1, 0.5], 400)
    soft = probs ** (1 / 3)
    soft /= soft.sum(axis=1, keepdims=True)
    counts = {"a": probs.mean(axis=0) * 1000}
    found = label_inference({"a": soft}, counts, {"a": "temperature (temperature=3)"})["a"]
    assert found["tv_inverted"] < 1e-9
    assert found["tv"] > 0.1
    assert label_inference({"a": soft}, counts, {"a": "none"})["a"]["tv_inverted"] == found["tv"]


def test_randomised_response_averages_out():
    generator = np.random.default_rng(0)
    truth, labels, rows, epsilon = np.array([0.6, 0.3, 0.1, 0.0]), 4, 40_000, 1.0
    kept = math.exp(epsilon) / (math.exp(epsilon) + labels - 1)
    label = generator.choice(labels, rows, p=truth)
    other = (label + generator.integers(1, labels, rows)) % labels
    said = np.where(generator.random(rows) < kept, label, other)
    words = {"a": "randomised-response (epsilon_each=1.0)"}
    found = label_inference({"a": np.eye(labels)[said]}, {"a": truth * 100}, words)["a"]
    assert found["tv"] > 0.2
    assert found["tv_inverted"] < 0.03


def test_membership_attacks_find_a_planted_memory():
    """Confidence alone is fooled by easy rows; references are not."""
    n, generator = 600, np.random.default_rng(1)
    label = generator.integers(0, 5, 2 * n)
    ease = generator.normal(0, 3, 2 * n)

    def answer(bonus):
        logits = generator.normal(0, 0.3, (2 * n, 5))
        logits[np.arange(2 * n), label] += ease + bonus
        raised = np.exp(logits)
        return raised / raised.sum(axis=1, keepdims=True)

    member = np.arange(2 * n) < n
    target = answer(1.5 * member)
    references = np.stack([answer(0.0) for _ in range(3)])
    plain = confidence_scores(target, label)
    lira = lira_scores(target, references, label)
    assert 0.55 < auc(plain[:n], plain[n:]) < auc(lira[:n], lira[n:])
    assert auc(lira[:n], lira[n:]) > 0.95
    honest = lira_scores(answer(0.0), np.stack([answer(0.0) for _ in range(9)]), label)
    assert abs(auc(honest[:n], honest[n:]) - 0.5) < 0.06
    with pytest.raises(ValueError, match="reference"):
        lira_scores(target, references[:0], label)
    own = Questioned(n, label, target, references, references[:0])
    by_party, pooled = membership({"a": own, "b": own}, 1e-5, 0)
    assert list(by_party["a"]) == ["confidence", "cooperative-lira"]
    assert pooled["cooperative-lira"].members == 2 * n


def test_float16_saturation_keeps_scores_finite():
    sure = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).astype(np.float16)
    assert np.isfinite(confidence_scores(sure, np.array([0, 0]))).all()


def test_identification_links_teachers_that_differ():
    skill = simplex(2, 400, 5, sharp=0.5)
    tilted = {}
    for party in range(4):
        tilt = np.ones(5)
        tilt[party] = 3
        tilted[f"p{party}"] = skill * tilt / (skill * tilt).sum(axis=1, keepdims=True)
    found = identification(tilted, {name: p.sum(axis=0) for name, p in tilted.items()}, 0)
    assert found["linked"] == found["by_label_counts"] == 1
    assert found["chance"] == 0.25
    same = {f"p{k}": simplex(10 + k, 400, 5) for k in range(6)}
    assert identification(same, {}, 0)["linked"] < 0.6
    assert "reason" in identification({"p0": skill}, {}, 0)


def test_embeddings_of_private_rows_are_found():
    generator = np.random.default_rng(3)
    private, control = generator.normal(size=(2, 300, 8))
    planted = nearest_private(private[:100] + 1e-3, private, control, 0)
    assert planted["nearest_is_private"] == 1 and planted["low"] > 0.9
    fresh = nearest_private(generator.normal(size=(400, 8)), private, control, 0)
    assert fresh["low"] < 0.5 < fresh["high"]
    assert nearest(private[:3], private) == pytest.approx(np.zeros(3), abs=1e-6)
    assert nearest_private(private, private, control[:0], 0)["n"] == 0


def test_suspects_are_matched_and_never_on_both_sides():
    private = {"text": [f"row {i}" for i in range(60)], "label": [i % 3 for i in range(60)]}
    held_out = {
        "text": ["ROW  1", "row 2", *(f"new {i}" for i in range(20))],
        "label": [1, 2, *([0] * 4), *([1] * 16)],
    }
    own = choose_suspects(private, held_out, ["new 19"], most=100, seed=0, party="p")
    half = len(own.members)
    assert half == len(own.nonmembers) == 4 + 15
    assert (np.sort(own.label[:half]) == np.sort(own.label[half:])).all()
    assert not {0, 1} & set(own.nonmembers)
    assert not {1, 2} & set(own.members)
    few = choose_suspects(private, held_out, [], most=5, seed=0, party="p")
    assert len(few.members) == 5
    again = choose_suspects(private, held_out, [], most=5, seed=0, party="p")
    assert (few.members == again.members).all()
    assert not len(choose_suspects(private, {}, [], most=5, seed=0, party="p").members)


def test_promises_are_read_from_the_ledger():
    entry = {"party": "a", "kind": "probabilities", "arrays": {"probs": {}}, "mechanism": "m"}
    silent = entry | {"party": "b", "epsilon_spent": None}
    ledger = [entry | {"epsilon_spent": 1.0}, entry | {"epsilon_spent": 2.5}, silent]
    assert promised(ledger) == {"a": 2.5, "b": None}
    assert promised([silent | {"party": "a"}, *ledger])["a"] is None
    assert mechanisms(ledger).keys() == {"a", "b"}
    softened = entry | {"mechanism": "temperature", "parameters": {"temperature": 2.5}}
    assert parameter(mechanisms([softened])["a"], "temperature") == 2.5


def test_a_lower_bound_above_the_promise_is_named():
    found = {"a": {"lower": 2.0, "upper": 1.0}, "b": {"lower": 2.0, "upper": None}}
    assert [line.split(":")[0] for line in broken_promises(found)] == ["a"]
    assert not broken_promises({"a": {"lower": 1.0, "upper": 1.0}})
    assert bounds({}, {}) == {}

"""Each mechanism does what its proof speaks of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, laplace, norm
from torch.nn import functional as F

from fedkd.errors import ModelError, PolicyError
from fedkd.models import classifier, training
from fedkd.privacy.accountant import Event, epsilon_rdp, response_keeps
from fedkd.privacy.mechanisms import answer_event, applied, dp_sgd, hygiene, pate, settled
from fedkd.privacy.mechanisms.clipping import near_uniform, onto_simplex
from fedkd.privacy.mechanisms.gaussian import sensitivity as gaussian_sensitivity
from fedkd.privacy.mechanisms.laplace import sensitivity as laplace_sensitivity
from fedkd.privacy.noise import NoiseKey, own_secret
from fedkd.privacy.settings import PER_RELEASE, UNITS, Mechanism, Terms
from fedkd.scenario import Model

KEY = NoiseKey(0, "party")
PROBS = np.random.default_rng(0).dirichlet(np.ones(4), 3000)
MECHANISMS = [
    Mechanism(name="pate", noise=2, teachers=20),
    Mechanism(name="randomised-response", epsilon_each=1),
    Mechanism(name="laplace", noise=0.5),
    Mechanism(name="gaussian", noise=0.5, clip=0.3),
    Mechanism(name="temperature", temperature=3),
    Mechanism(name="top-k", keep=2),
    Mechanism(name="rounding", decimals=1),
    Mechanism(name="argmax"),
    Mechanism(name="dp-sgd"),
    Mechanism(),
]


@pytest.mark.parametrize("own", MECHANISMS, ids=lambda own: own.name)
def test_every_answer_is_on_the_simplex_and_can_be_repeated(own):
    stream = KEY.stream("answer/0-3000", own.name)
    values = applied(own, PROBS, stream)
    assert values.shape == PROBS.shape
    assert values.min() >= 0
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_array_equal(values, applied(own, PROBS, stream))


@pytest.mark.parametrize("own", MECHANISMS, ids=lambda own: own.name)
def test_only_what_is_proved_has_an_event(own):
    event = answer_event(own, 7, 4)
    assert (event is not None) == (own.name in PER_RELEASE)
    assert (own.unit is not None) == (own.name in UNITS)
    assert event is None or event.count == 7


@pytest.mark.parametrize("name", PER_RELEASE)
def test_settled_noise_spends_the_budget_and_no_more(name):
    terms = settled(Terms(epsilon=3, mechanism={"name": name}), 200, 4)
    event = answer_event(terms.mechanism, 200, 4)
    assert event is not None
    assert 2.95 < epsilon_rdp([event], terms.delta) <= 3
    assert settled(terms, 999, 4) == terms
    with pytest.raises(PolicyError, match="epsilon"):
        settled(Terms(mechanism={"name": name}), 200, 4)


def test_noise_has_its_distribution_and_belongs_to_its_request(tmp_path):
    stream = KEY.stream("a", "b")
    assert kstest(stream.normal((20_000,)), norm.cdf).pvalue > 1e-3
    assert kstest(stream.laplace((20_000,)), laplace.cdf).pvalue > 1e-3
    assert kstest(stream.uniform((20_000,)), "uniform").pvalue > 1e-3
    others = [
        KEY.stream("a", "c"), KEY.stream("b", "b"), NoiseKey(1, "party").stream("a", "b"),
        NoiseKey(0, "other").stream("a", "b"), NoiseKey(0, "party", b"s").stream("a", "b"),
    ]  # fmt: skip
    for other in others:
        assert abs(np.corrcoef(stream.normal((4000,)), other.normal((4000,)))[0, 1]) < 0.06
    secret = own_secret(tmp_path)
    assert len(secret) == 32 and own_secret(tmp_path) == secret
    (tmp_path / "noise.key").unlink()
    assert own_secret(tmp_path) != secret


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 8), st.sampled_from([None, 0.1, 0.5, 3.0]))
def test_clipped_rows_are_never_further_apart_than_the_sensitivity(seed, labels, clip):
    rng = np.random.default_rng(seed)
    sharp = np.eye(labels)[rng.integers(labels, size=(2, 50))]
    soft = rng.dirichlet(np.full(labels, 0.2), (2, 50))
    for one, two in (sharp, soft, (sharp[0], soft[0])):
        for order, bound in ((1, laplace_sensitivity(clip)), (2, gaussian_sensitivity(clip))):
            apart = near_uniform(one, clip, order) - near_uniform(two, clip, order)
            assert np.linalg.norm(apart, ord=order, axis=1).max() <= bound + 1e-9


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_projection_is_the_nearest_point_of_the_simplex(seed, labels):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 2, (5, labels))
    nearest = onto_simplex(values)
    others = rng.dirichlet(np.ones(labels), (200, 5))
    far = np.linalg.norm(others - values, axis=2).min(axis=0)
    assert (np.linalg.norm(nearest - values, axis=1) <= far + 1e-9).all()
    np.testing.assert_allclose(onto_simplex(nearest), nearest, atol=1e-12)


def test_randomised_response_keeps_a_label_as_often_as_it_says():
    released = applied(
        Mechanism(name="randomised-response", epsilon_each=1), PROBS, KEY.stream("", "")
    )
    kept = (released.argmax(axis=1) == PROBS.argmax(axis=1)).mean()
    want = response_keeps(1, 4)
    assert abs(kept - want) < 4 * math.sqrt(want * (1 - want) / len(PROBS))
    others = (released.argmax(axis=1) - PROBS.argmax(axis=1)) % 4
    shares = np.bincount(others, minlength=4)[1:] / len(PROBS)
    np.testing.assert_allclose(shares, (1 - want) / 3, atol=0.03)
    assert want / ((1 - want) / 3) == pytest.approx(math.e)


def test_hygiene_does_what_it_says():
    np.testing.assert_allclose(hygiene.softened(hygiene.softened(PROBS, 4), 0.25), PROBS, atol=1e-9)
    top = hygiene.top_k(PROBS, 2)
    assert ((top > 0).sum(axis=1) == 2).all()
    assert (top.argmax(axis=1) == PROBS.argmax(axis=1)).all()
    steps = hygiene.rounded(PROBS, 1) * 10
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert np.abs(hygiene.rounded(PROBS, 2) - PROBS).max() <= 0.01
    assert set(np.unique(hygiene.top_label(PROBS))) == {0.0, 1.0}


TEXTS = [f"{word} {word}er thing {i % 5}" for i in range(60) for word in ("good", "bad")]
LABEL = np.tile([0, 1], 60)
KINDS = [Model(model="bow"), Model(model="bow", hidden=4), Model(model="mlp", widths=(5,))]


def texts_for(model: Model) -> list[str]:
    if model.model == "mlp":
        return [f"{1 - 2 * y} {i % 7} 1" for i, y in enumerate(LABEL)]
    return TEXTS


@pytest.mark.parametrize("model", KINDS, ids=["linear", "hidden", "vectors"])
def test_clipped_sum_is_that_of_clipped_single_gradients(model):
    texts = texts_for(model)
    own = classifier.build(model, 2, seed=1, public_text=texts, fit_text=texts)
    inputs, rows, clip = own.inputs(texts), np.arange(0, 30), 0.2
    network = dp_sgd._network(own)
    wrapped = dp_sgd.GradSampleModuleFastGradientClipping(
        network.layers, max_grad_norm=clip, loss_reduction="sum"
    )
    wrapped.train()
    truth = torch.from_numpy(LABEL)
    dp_sgd._clipped_sum(wrapped, network, inputs, truth, rows)
    got = [p.grad.clone() for p in network.layers.parameters()]
    wrapped.to_standard_module()
    want = [torch.zeros_like(g) for g in got]
    for row in rows:
        logits = network.layers(network.dense(inputs, np.array([row])))
        loss = F.cross_entropy(logits, truth[[row]])
        grads = torch.autograd.grad(loss, list(network.layers.parameters()))
        size = math.sqrt(sum(float((g**2).sum()) for g in grads))
        shrink = min(1.0, clip / (size + 1e-6))
        want = [total + gradient * shrink for total, gradient in zip(want, grads, strict=True)]
    for one, two in zip(got, want, strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4)
    total = math.sqrt(sum(float((g**2).sum()) for g in got))
    assert total <= clip * len(rows) + 1e-5


@pytest.mark.parametrize("model", KINDS, ids=["linear", "hidden", "vectors"])
def test_private_training_learns_repeats_itself_and_needs_its_noise(model):
    texts = texts_for(model)

    def train(noise: float, key: NoiseKey) -> tuple[float, np.ndarray]:
        own = classifier.build(model, 2, seed=1, public_text=texts, fit_text=texts)
        mechanism = Mechanism(
            name="dp-sgd", noise=noise, sample_rate=0.5, steps=30, learning_rate=1
        )
        spent = dp_sgd.event(mechanism, None, 1e-5)
        assert spent == Event("sampled-gaussian", noise, 30, 0.5)
        dp_sgd.fit(own, own.inputs(texts), LABEL, mechanism=mechanism, spent=spent, key=key)
        probs = training.predict(own, texts)
        return float((probs.argmax(axis=1) == LABEL).mean()), probs

    accuracy, first = train(0.3, KEY)
    assert accuracy > 0.9
    np.testing.assert_array_equal(first, train(0.3, KEY)[1])
    assert np.abs(first - train(0.3, NoiseKey(5, "party"))[1]).max() > 1e-3
    assert np.abs(first - train(30.0, KEY)[1]).max() > 2e-3


def test_private_training_is_calibrated_and_says_what_it_cannot_train():
    spent = dp_sgd.event(Mechanism(name="dp-sgd"), 3.0, 1e-5)
    assert 2.9 < epsilon_rdp([spent], 1e-5) <= 3
    with pytest.raises(ModelError, match="epsilon"):
        dp_sgd.event(Mechanism(name="dp-sgd"), None, 1e-5)
    model = Model(model="transformer", layers=1, width=8, heads=1, vocabulary=64)
    own = classifier.build(model, 2, seed=1, public_text=TEXTS, fit_text=TEXTS)
    with pytest.raises(ModelError, match="bow"):
        dp_sgd.fit(
            own, own.inputs(TEXTS), LABEL, mechanism=Mechanism(name="dp-sgd"), spent=spent, key=KEY
        )


def test_a_record_more_changes_one_shard_alone():
    before = pate.shards(TEXTS, 10, 3)
    after = pate.shards([*TEXTS[:40], "something new", *TEXTS[40:]], 10, 3)
    np.testing.assert_array_equal(np.delete(after, 40), before)
    assert len(np.unique(before)) > 5


ORDERS = np.array([1.5, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize("noise", [2.0, 4.0, 10.0])
@pytest.mark.parametrize("lead", [0, 5, 20, 40])
def test_dependent_curve_bounds_the_true_divergence_and_is_below_the_plain_one(noise, lead):
    """Two labels, so that the winner's true distribution is known for both neighbours."""
    votes = np.array([25.0 + lead / 2, 25.0 - lead / 2])
    log_q = pate.log_other_winner(votes, noise)
    curve = pate.dependent_rdp(log_q, noise, ORDERS)
    assert (curve <= ORDERS / noise**2 + 1e-12).all()
    own = norm.logcdf([-lead / (math.sqrt(2) * noise), lead / (math.sqrt(2) * noise)])
    assert log_q >= own[0] - 1e-9 or log_q == pytest.approx(math.log(0.5))
    moved = lead - 2
    other = norm.logcdf([-moved / (math.sqrt(2) * noise), moved / (math.sqrt(2) * noise)])
    for order, bound in zip(ORDERS, curve, strict=True):
        true = np.logaddexp(*(order * own + (1 - order) * other)) / (order - 1)
        assert true <= bound + 1e-9


def test_dependent_epsilon_rewards_agreement():
    agreed, split = np.tile([[48.0, 1, 1]], (100, 1)), np.tile([[18.0, 16, 16]], (100, 1))
    plain = epsilon_rdp([pate.event(4.0, 100)], 1e-5)
    assert pate.dependent_epsilon(agreed, 4.0, 1e-5) < 0.5 * plain
    assert pate.dependent_epsilon(split, 4.0, 1e-5) > 0.9 * plain

"""Latents that are carried onto the student's topics while it trains."""

from __future__ import annotations

import numpy as np
import torch

from fedkd.models.topic_network import build_network
from fedkd.models.topic_training import TopicTraining, fit_topics, posterior, word_shares
from fedkd.topics.alignment import AlignCost, standardise, topic_features
from fedkd.topics.follow import Follower, Latents, gather
from fedkd.topics.objective import Distillation, TopicTargets
from tests.topics.small_topics import TOPICS, documents, shape


def latents(order=None):
    data = documents()
    teacher = build_network(shape("combined"), 1)
    fit_topics(teacher, data, TopicTraining(40, 32), seed=1)
    mean, log_variance = posterior(teacher, data)
    words = word_shares(teacher, mean, log_variance, samples=4, seed=0)
    order = np.arange(TOPICS) if order is None else order
    mean, log_variance = mean[:, order], log_variance[:, order]
    m, v = standardise(mean, log_variance)
    features = topic_features(mean, words)
    return data, words, Latents(m, np.exp(v / 2), features, np.ones(len(data)))


def test_a_students_own_topics_are_found_in_any_order():
    _, _, own = latents()
    _, _, moved = latents(np.array([2, 0, 3, 1]))
    plain = gather([own], own.features, AlignCost(), None)
    back = gather([moved], own.features, AlignCost(), None)
    np.testing.assert_allclose(back.mean, plain.mean)
    np.testing.assert_allclose(back.spread, plain.spread)
    nothing = gather([own], latents()[2].features, AlignCost(), 1e-9)
    assert nothing.covered.sum() <= plain.covered.sum()


def test_averaged_latents_get_back_the_marginals_of_a_batch_norm():
    _, _, own = latents()
    _, _, other = latents(np.array([1, 2, 3, 0]))
    mixed = gather([own, other], own.features, AlignCost(activity=0.0), None).standardised()
    np.testing.assert_allclose(mixed.mean.std(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(np.log(mixed.spread).mean(axis=0), 0, atol=1e-9)


def test_following_teaches_the_latents_after_a_while():
    data, words, own = latents()
    base = Distillation(TopicTargets(torch.from_numpy(words)), 0.8, 1.0, latent=0.0)
    follower = Follower(base, [own], data, AlignCost(), latent=0.1, refresh=2, kappa=1.0)
    student = build_network(shape(), 3)
    history = fit_topics(
        student, data, TopicTraining(12, 32), seed=0, objective=follower,
        each_epoch=follower.each_epoch,
    )  # fmt: skip
    taught = [epoch.get("transport") for epoch in history.epochs]
    assert taught[:2] == [None, None] and all(t is not None for t in taught[2:])
    assert taught[-1] < taught[2]

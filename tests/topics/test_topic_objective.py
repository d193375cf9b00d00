"""One teacher and one student: the paper's loss and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedkd.errors import ScenarioError
from fedkd.models.determinism import forked_generator
from fedkd.models.topic_network import build_network
from fedkd.models.topic_training import (
    TopicTraining,
    elbo,
    fit_topics,
    posterior,
    raw_logits,
    word_shares,
)
from fedkd.topics.aggregate import TopicAggregator
from fedkd.topics.objective import Distillation, TopicTargets
from tests.topics.small_topics import TOPICS, WORDS, documents, shape


def paper_loss(student, done, dense, teacher, *, alpha, temperature):
    """Write out (1 − α)(RL + KL) + α(W₂² + T² CE) with nothing of the library's own."""
    p = torch.softmax(done.logits, dim=1)
    missed = -(dense * torch.log(p)).sum()
    variance = torch.exp(done.log_variance)
    v, m = student.prior_variance, student.prior_mean
    kl = (
        0.5 * (variance / v + (m - done.mean) ** 2 / v - 1 + torch.log(v) - done.log_variance).sum()
    )
    mean, log_variance, soft = teacher
    sd, td = torch.sqrt(variance), torch.sqrt(torch.exp(log_variance))
    # The trace formula of two diagonal covariances.
    w2 = ((done.mean - mean) ** 2).sum() + (variance + td**2 - 2 * sd * td).sum()
    ce = -(soft * torch.log(torch.softmax(done.logits / temperature, dim=1))).sum()
    return (1 - alpha) * (missed + kl) + alpha * (w2 + temperature**2 * ce)


@pytest.mark.parametrize("soft_label", ["bn", "repo"])
def test_one_teacher_is_the_paper(soft_label):
    data = documents(dtype="float64")
    teacher = build_network(shape("combined"), 1).double()
    fit_topics(teacher, data, TopicTraining(3), seed=1)
    student = build_network(shape(), 2).double().train()
    rows = torch.arange(len(data))
    _, bags, vectors = next(data.batches(len(data), torch.float64))
    with forked_generator(7):
        done = student(bags, vectors)
    mean, log_variance = posterior(teacher, data)
    theta = torch.softmax(torch.from_numpy(mean), dim=1)
    normalised = soft_label == "bn"
    with torch.no_grad():
        logits = teacher.decode(theta) if normalised else raw_logits(teacher, theta)
        soft = torch.softmax(logits / 2.0, dim=1)
    # Through the federation's aggregate, with one party.
    gathered = TopicAggregator(len(data), WORDS, TOPICS)
    gathered.add(np.full(len(data), 3.0), soft.numpy(), mean, np.exp(0.5 * log_variance))
    all_said = gathered.close()
    targets = TopicTargets(
        torch.from_numpy(all_said.words),
        torch.from_numpy(all_said.mean),
        torch.from_numpy(all_said.spread),
    )
    ours, terms = Distillation(targets, alpha=0.6, temperature=2.0)(student, done, bags, rows)
    told = (torch.from_numpy(mean), torch.from_numpy(log_variance), soft)
    paper = paper_loss(student, done, bags.dense(), told, alpha=0.6, temperature=2.0)
    torch.testing.assert_close(ours, paper, rtol=1e-10, atol=1e-10)
    leaves = list(student.parameters())
    mine = torch.autograd.grad(ours, leaves, retain_graph=True)
    theirs = torch.autograd.grad(paper, leaves)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert set(terms) == {"reconstruction", "kl", "cross_entropy", "transport"}
    # A single draw at the posterior's mean is what the samplers give without spread.
    drawn = word_shares(
        teacher, mean, np.full_like(mean, -1e9), samples=1, seed=0, temperature=2.0,
        normalised=normalised,
    )  # fmt: skip
    np.testing.assert_allclose(drawn, soft.numpy(), atol=1e-6)


def test_no_distillation_is_the_model_alone():
    data = documents()
    network = build_network(shape(), 2).train()
    _, bags, vectors = next(data.batches(len(data)))
    done, rows = network(bags, vectors), torch.arange(len(data))
    targets = TopicTargets(torch.full((len(data), WORDS), 1 / WORDS))
    alone, _ = elbo(network, done, bags, rows)
    told, _ = Distillation(targets, alpha=0.0, latent=0.0)(network, done, bags, rows)
    assert torch.equal(alone, told)


def test_emphasis_silences_documents_and_proportions_are_felt():
    data = documents()
    network = build_network(shape(), 2).train()
    _, bags, vectors = next(data.batches(len(data)))
    done, rows = network(bags, vectors), torch.arange(len(data))
    soft = torch.full((len(data), WORDS), 1 / WORDS)
    latents = torch.zeros(len(data), TOPICS), torch.ones(len(data), TOPICS)
    quiet = Distillation(TopicTargets(soft, *latents, emphasis=torch.zeros(len(data))), alpha=1.0)
    assert float(quiet(network, done, bags, rows)[0].detach()) == 0
    cost = 1 - torch.eye(TOPICS)
    shares = torch.full((len(data), TOPICS), 1 / TOPICS)
    felt = Distillation(
        TopicTargets(soft, shares=shares, cost=cost), alpha=1.0, latent=0.0, proportions=1.0
    )
    loss, terms = felt(network, done, bags, rows)
    (slope,) = torch.autograd.grad(terms["proportions"], done.mean, retain_graph=True)
    assert float(slope.abs().sum()) > 0 and torch.isfinite(loss)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"alpha": -0.1}, "alpha=-0.1"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"latent": 1.0}, "latent"),
    ],
)
def test_impossible_terms_are_refused(values, says):
    with pytest.raises(ScenarioError, match=says):
        Distillation(TopicTargets(torch.ones(2, 2)), **values)


def test_distillation_brings_a_student_closer_to_its_teacher():
    data = documents()
    teacher = build_network(shape("combined"), 1)
    fit_topics(teacher, data, TopicTraining(30, 32), seed=1)
    mean, log_variance = posterior(teacher, data)
    soft = word_shares(teacher, mean, log_variance, samples=4, seed=0)
    found = []
    for objective in (elbo, Distillation(TopicTargets(torch.from_numpy(soft)), 0.9, 1.0, 0.0)):
        student = build_network(shape(), 2)
        fit_topics(student, data, TopicTraining(30, 32), seed=2, objective=objective)
        own = word_shares(student, *posterior(student, data), samples=4, seed=0)
        found.append(float((soft * (np.log(soft) - np.log(own))).sum(axis=1).mean()))
    assert found[1] < found[0]

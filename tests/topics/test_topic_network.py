"""The networks are those of the papers, on sparse bags as on dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedkd.errors import DataError, ModelError
from fedkd.models.determinism import forked_generator
from fedkd.models.topic_files import load_topic_model, save_topic_model
from fedkd.models.topic_network import (
    TopicShape,
    build_network,
    parameter_counts,
    reconstruction,
    sparse_product,
)
from fedkd.models.topic_training import (
    Documents,
    TopicTraining,
    elbo,
    fit_topics,
    posterior,
    topic_words,
    word_shares,
)
from tests.topics.small_topics import TOPICS, WIDTH, WORDS, documents, shape

PUBLISHED = [  # words, topics, layers, teacher, student: Adhya & Sanyal's code, E = 768 and 384
    (1612, 20, 1, 1_608_548, 717_420),
    (1612, 50, 1, 1_663_028, 862_620),
    (1612, 100, 5, 1_794_228, 1_104_620),
    (1696, 10, 4, 1_702_924, 703_880),
    (1696, 20, 5, 1_732_024, 754_800),
    (1696, 50, 2, 1_758_724, 907_560),
    (1696, 100, 3, 1_863_824, 1_162_160),
]
COLLAPSED = [274, 329, 460, 296, 325, 352, 457]
NARROW = [85, 139, 230, 68, 87, 144, 239]


@pytest.mark.parametrize("cell", range(len(PUBLISHED)))
def test_parameters_are_those_of_the_published_code(cell):
    words, topics, layers, teacher, student = PUBLISHED[cell]
    big = TopicShape("combined", words, topics, 768, (100,) * layers, adapt=True)
    counts = parameter_counts(big)
    assert counts["published"] == teacher
    assert round(counts["collapsed"] / 1000) == COLLAPSED[cell]
    small = parameter_counts(TopicShape("zero-shot", words, topics, 384, (words,)))
    assert small["published"] == small["built"] == student
    narrow = parameter_counts(TopicShape("zero-shot", words, topics, 384))
    assert round(narrow["built"] / 1000) == NARROW[cell]


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("inputs", ["bag", "combined", "zero-shot"])
def test_the_count_is_what_the_network_holds(inputs, adapt):
    if adapt and inputs != "combined":
        pytest.skip("only CombinedTM has the detour")
    made = shape(inputs, adapt=adapt, hidden=(8, 7))
    held = sum(p.numel() for p in build_network(made, 0).parameters())
    assert held == parameter_counts(made)["built"]


def test_sparse_layer_and_likelihood_equal_dense_ones():
    data = documents(dtype="float64")
    _, bags, _ = next(data.batches(len(data), torch.float64))
    dense = torch.from_numpy(data.bags.toarray())
    assert torch.equal(bags.dense(), dense)
    weight = torch.randn(WORDS, 5, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(len(data), WORDS, dtype=torch.float64, requires_grad=True)
    for ours, plain, leaf in (
        (sparse_product(bags, weight).square().sum(), (dense @ weight).square().sum(), weight),
        (reconstruction(logits, bags), -(dense * torch.log_softmax(logits, 1)).sum(), logits),
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
        a, b = (torch.autograd.grad(x, leaf)[0] for x in (ours, plain))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_detour_computes_what_one_layer_can():
    data = documents(dtype="float64")
    wide = build_network(shape("combined", adapt=True), 0).double().eval()
    flat = build_network(shape("combined"), 1).double().eval()
    state = flat.state_dict()
    state.update({k: v for k, v in wide.state_dict().items() if k in state})
    state["vector_in"] = wide.adapt.weight.T @ wide.vector_in
    state["first_bias"] = wide.first_bias + wide.adapt.bias @ wide.vector_in
    flat.load_state_dict(state)
    for a, b in zip(posterior(wide, data), posterior(flat, data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_training_lowers_the_loss_and_is_the_same_bit_for_bit():
    data, settings = documents(), TopicTraining(epochs=30, batch=32)
    runs = []
    for _ in range(2):
        network = build_network(shape("combined"), 3)
        history = fit_topics(network, data, settings, seed=5)
        runs.append((history.epochs, network.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(a, runs[1][1][k]) for k, a in runs[0][1].items())
    assert runs[0][0][-1]["reconstruction"] < runs[0][0][0]["reconstruction"]


def test_the_optimiser_is_torchs_own():
    data, settings = documents(64), TopicTraining(epochs=3, batch=64)
    ours, plain = (build_network(shape("combined"), 3) for _ in range(2))
    fit_topics(ours, data, settings, seed=5)
    adam = torch.optim.Adam(plain.parameters(), lr=2e-3, betas=(0.99, 0.99), fused=True)
    order = np.random.default_rng(5)
    plain.train()
    with forked_generator(5):
        for _ in range(3):
            turned = data.take(order.permutation(64))
            _, bags, vectors = next(turned.batches(64))
            adam.zero_grad()
            elbo(plain, plain(bags, vectors), bags, torch.arange(64))[0].backward()
            adam.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_words_off_the_support_get_no_mass_ever():
    data = documents()
    support = torch.arange(WORDS) % 3 > 0
    keep = np.flatnonzero(support.numpy())
    bags = data.bags.copy()
    bags.data[~np.isin(bags.indices, keep)] = 0
    bags.eliminate_zeros()
    network = build_network(shape("combined"), 0)
    network.restrict(support)
    fit_topics(network, Documents(bags, data.vectors), TopicTraining(5), seed=0)
    mean, log_variance = posterior(network, data)
    for normalised in (True, False):
        words = word_shares(
            network, mean, log_variance, samples=2, seed=0, temperature=2, normalised=normalised
        )
        assert (words[:, ~support.numpy()] == 0).all()
        np.testing.assert_allclose(words.sum(axis=1), 1, rtol=1e-5)
    assert np.isinf(topic_words(network)[:, ~support.numpy()]).all()


def test_a_saved_model_answers_as_before(tmp_path):
    data = documents()
    network = build_network(shape("combined", adapt=True), 0)
    network.restrict(torch.arange(WORDS) != 2)
    fit_topics(network, data, TopicTraining(2), seed=0)
    save_topic_model(network, tmp_path, [f"w{i}" for i in range(WORDS)], "lsa:6")
    loaded, vocabulary, encoder = load_topic_model(tmp_path)
    assert vocabulary[2] == "w2" and encoder == "lsa:6"
    for a, b in zip(posterior(network, data), posterior(loaded, data), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(topic_words(network), topic_words(loaded))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"topics": 1}, "topics=1"),
        ({"topics": WORDS + 1}, f"words={WORDS}"),
        ({"vectors": 0}, "vectors=0"),
        ({"dropout": 1.0}, "dropout"),
        ({"hidden": ()}, "hidden"),
        ({"adapt": True}, "adapt"),
    ],
)
def test_impossible_shapes_are_refused(changes, says):
    with pytest.raises(ModelError, match=says):
        shape(**changes)


def test_wrong_documents_are_refused():
    data = documents()
    with pytest.raises(ModelError, match="width of the text vectors=7"):
        wider = np.zeros((len(data), WIDTH + 1), np.float32)
        posterior(build_network(shape(), 0), Documents(data.bags, wider))
    with pytest.raises(ModelError, match="words"):
        posterior(build_network(shape(words=WORDS + 1), 0), data)
    with pytest.raises(DataError, match="vectors=1"):
        Documents(data.bags, np.zeros((1, WIDTH)))
    with pytest.raises(DataError, match="at least 2"):
        one = data.take(np.array([0]))
        fit_topics(build_network(shape(), 0), one, TopicTraining(1), seed=0)


def test_prior_is_the_laplace_approximation():
    network = build_network(shape(), 0)
    assert (network.prior_mean == 0).all()
    assert torch.allclose(network.prior_variance, torch.tensor(1 - 1 / TOPICS))
    mean, log_variance = torch.randn(7, TOPICS), torch.randn(7, TOPICS)
    normal = torch.distributions.Normal
    posterior_ = normal(mean, (log_variance / 2).exp())
    prior = normal(network.prior_mean, network.prior_variance.sqrt())
    exact = torch.distributions.kl_divergence(posterior_, prior).sum()
    torch.testing.assert_close(network.kl(mean, log_variance), exact)


@pytest.mark.parametrize("inputs", ["bag", "combined", "zero-shot"])
def test_a_pass_is_the_papers_with_one_look_at_each_batch_norm(inputs):
    data = documents(dtype="float64")
    network = build_network(shape(inputs, hidden=(8, 7)), 3).double().train()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    _, bags, vectors = next(data.batches(len(data), torch.float64))
    with forked_generator(7):
        done = network(bags, vectors)

    def norm(values):  # no slope and no shift to learn
        return (values - values.mean(0)) / (values.var(0, unbiased=False) + 1e-5).sqrt()

    parts = {"word_in": bags.dense(), "vector_in": vectors}
    read = state["first_bias"] + sum(x @ state[k] for k, x in parts.items() if k in state)
    hidden = torch.nn.functional.softplus(read)
    hidden = torch.nn.functional.softplus(
        hidden @ state["layers.0.weight"].T + state["layers.0.bias"]
    )
    with forked_generator(7):
        hidden = torch.nn.functional.dropout(hidden, 0.2)
        mean, log_variance = (
            norm(hidden @ state[f"to_{n}.weight"].T + state[f"to_{n}.bias"])
            for n in ("mean", "log_variance")
        )
        draw = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        theta = torch.nn.functional.dropout(torch.softmax(draw, 1), 0.2)
    mixed = theta @ state["beta"]
    for ours, plain in (
        (done.mean, mean), (done.log_variance, log_variance), (done.theta, theta),
        (done.logits, norm(mixed)),
        (network.word_center, 0.1 * mixed.mean(0)),
        (network.word_scale, 0.9 + 0.1 * mixed.var(0)),
    ):  # fmt: skip
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    learned = {name for name, _ in network.named_parameters()}
    assert {"prior_mean", "prior_variance"} <= learned
    assert not any("center" in name or "scale" in name for name in learned)

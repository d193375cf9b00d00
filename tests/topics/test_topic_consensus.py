"""Laws of the federated part: identities, permutations, uploads, vocabularies, weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedkd.errors import DataError, QuorumError, ScenarioError
from fedkd.privacy.noise import NoiseKey
from fedkd.topics.aggregate import TopicAggregator
from fedkd.topics.alignment import AlignCost, align, carry, standardise, topic_features
from fedkd.topics.upload import background, coding_error, decode_top, encode_top
from fedkd.topics.vocabulary import WordNoise, agree, pack_words, tell_words, unpack_words
from fedkd.topics.weights import document_weights
from fedkd.transport.gaussian import gaussian_barycentre, gaussian_w2
from tests.topics.small_topics import TOPICS, WORDS, answers, documents


def w2(mean, spread, other_mean, other_spread):
    return gaussian_w2(*(torch.from_numpy(x) for x in (mean, spread, other_mean, other_spread)))


def test_closed_form_w2_is_the_full_covariance_formula():
    for seed in range(20):
        draw = np.random.default_rng(seed)
        m, n = draw.standard_normal((2, 5))
        s, t = draw.uniform(0.1, 2, (2, 5))
        a, b = np.diag(s**2), np.diag(t**2)
        values, vectors = np.linalg.eigh(np.sqrt(a) @ b @ np.sqrt(a))
        root = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
        full = ((m - n) ** 2).sum() + np.trace(a + b - 2 * root)
        assert abs(float(w2(m, s, n, t)) - full) < 1e-12 * max(1, full)


def test_sum_of_losses_is_the_loss_to_the_aggregate():
    count, parties = 60, [answers(seed) for seed in range(4)]
    draw = np.random.default_rng(9)
    weights = draw.uniform(0.1, 2, (4, count))
    gathered = TopicAggregator(count, WORDS, TOPICS)
    for weight, (mean, spread, words) in zip(weights, parties, strict=True):
        gathered.add(weight, words, mean, spread)
    all_said = gathered.close()
    share = weights / weights.sum(axis=0)
    own_mean, own_spread = (
        draw.standard_normal((count, TOPICS)),
        draw.uniform(0.5, 1, (count, TOPICS)),
    )
    logs = np.log(draw.dirichlet(np.ones(WORDS), count))
    separate_w2 = sum(
        w * w2(m, s, own_mean, own_spread).numpy()
        for w, (m, s, _) in zip(share, parties, strict=True)
    )
    together = w2(all_said.mean, all_said.spread, own_mean, own_spread).numpy()
    np.testing.assert_allclose(separate_w2, together + all_said.disagreement, rtol=1e-12)
    separate_ce = sum(
        -w * (q * logs).sum(axis=1) for w, (_, _, q) in zip(share, parties, strict=True)
    )
    np.testing.assert_allclose(separate_ce, -(all_said.words * logs).sum(axis=1), rtol=1e-12)
    means = torch.from_numpy(np.stack([m for m, _, _ in parties], axis=1))
    spreads = torch.from_numpy(np.stack([s for _, s, _ in parties], axis=1))
    mean, spread = gaussian_barycentre(means, spreads, torch.from_numpy(share.T.copy()))
    np.testing.assert_allclose(all_said.mean, mean.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(all_said.spread, spread.numpy(), rtol=0, atol=1e-12)


def test_barycentre_is_the_fixed_point():
    """s² = Σ w √(s σ_n² s) for the standard deviations: Álvarez-Esteban et al. 2016."""
    draw = np.random.default_rng(0)
    spreads, weights = draw.uniform(0.1, 3, (5, 7)), draw.dirichlet(np.ones(5))
    s = np.ones(7)
    for _ in range(200):
        s = (weights[:, None] * np.sqrt(s * spreads**2 * s)).sum(axis=0) / s
    closed = (weights[:, None] * spreads).sum(axis=0)
    np.testing.assert_allclose(s, closed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("plan", ["permutation", "soft", "unbalanced"])
def test_the_order_of_a_party_s_topics_does_not_matter(plan):
    parties = [answers(seed) for seed in range(3)]
    order = np.roll(np.arange(TOPICS), 1)
    moved = [
        parties[0],
        (parties[1][0][:, order], parties[1][1][:, order], parties[1][2]),
        parties[2],
    ]
    found = []
    for each in (parties, moved):
        features = [topic_features(m, q) for m, _, q in each]
        alignment = align(features, plan=plan)
        gathered = TopicAggregator(60, WORDS, TOPICS)
        for n, (mean, spread, words) in enumerate(each):
            gathered.add(np.ones(60), words, *carry(mean, spread, alignment.maps[n]))
        found.append(gathered.close())
    assert np.abs(found[0].mean - found[1].mean).max() <= 1e-6
    assert np.abs(found[0].spread - found[1].spread).max() <= 1e-6
    by_index = [
        align([topic_features(m, q) for m, _, q in each], plan="index") for each in (parties, moved)
    ]
    carried = [
        carry(each[1][0], each[1][1], a.maps[1])[0]
        for each, a in zip((parties, moved), by_index, strict=True)
    ]
    assert np.abs(carried[0] - carried[1]).max() > 0.1


@pytest.mark.parametrize("cost", [AlignCost(1, 0, 0), AlignCost(0, 1, 0), AlignCost(0, 0, 1)])
def test_a_shuffled_copy_is_found_again(cost):
    mean, _, words = answers(3)
    vectors = np.random.default_rng(0).standard_normal((60, 5))
    order = np.random.default_rng(2).permutation(TOPICS)
    features = [
        topic_features(mean, words, vectors),
        topic_features(mean[:, order], words, vectors),
    ]
    alignment = align(features, cost=cost)
    np.testing.assert_allclose(mean @ alignment.maps[0], mean[:, order] @ alignment.maps[1])
    assert max(d.max() for d in alignment.distance) < 1e-3


def test_a_topic_that_nobody_shares_gets_a_place_of_its_own():
    mean, _, words = answers(3)
    other = answers(11, topics=TOPICS + 2)
    features = [topic_features(mean, words), topic_features(other[0], other[2])]
    closed = align(features, topics=TOPICS)
    assert closed.maps[1].shape == (TOPICS + 2, TOPICS)
    opened = align(features, new_slot=0.05)
    assert opened.maps[1].shape[1] > TOPICS + 2
    assert not opened.covered(0).all()
    for chart in opened.maps:
        columns = chart.sum(axis=0)
        np.testing.assert_allclose(columns[columns > 0], 1)
    limited = align(features, topics=TOPICS + 3, new_slot=0.05)
    assert limited.maps[0].shape[1] <= TOPICS + 3


def test_standardised_latents_have_the_marginals_of_a_batch_norm():
    mean, spread, _ = answers(0)
    m, v = standardise(3 * mean + 2, np.log(spread))
    np.testing.assert_allclose([m.mean(axis=0), v.mean(axis=0)], 0, atol=1e-12)
    np.testing.assert_allclose(m.std(axis=0), 1)


def test_the_upload_is_small_and_its_error_is_known():
    documents_, words, topics = 3342, 1696, 20
    draw = np.random.default_rng(0)
    phi = draw.dirichlet(np.full(words, 0.05), topics)
    theta = draw.dirichlet(np.full(topics, 0.3), documents_)
    logits = np.log(theta @ phi + 1e-6)
    q = np.exp(logits / 2)
    q = (q / q.sum(axis=1, keepdims=True)).astype(np.float32)
    base = background(q)
    top = encode_top(q, base, 64)
    latents = 2 * documents_ * topics * 2
    assert top.nbytes + latents + base.nbytes <= 1_000_000
    back = decode_top(top, base)
    np.testing.assert_allclose(back.sum(axis=1), 1, rtol=1e-5)
    assert (back >= 0).all()
    coarse = coding_error(q, decode_top(encode_top(q, base, 16), base))
    fine = coding_error(q, back)
    assert 0 < fine["kl"] < coarse["kl"] and fine["total_variation"] < coarse["total_variation"]
    whole = coding_error(q[:50], decode_top(encode_top(q[:50], base, words), base))
    assert whole["total_variation"] < 0.02


def test_no_mass_off_the_support_after_the_upload():
    draw = np.random.default_rng(0)
    q = draw.dirichlet(np.full(WORDS, 0.2), 30)
    q[:, ::4] = 0
    q /= q.sum(axis=1, keepdims=True)
    base = background(q)
    back = decode_top(encode_top(q, base, 8), base)
    assert back[:, ::4].max() < 1e-9


def test_vocabulary_keeps_rare_words_at_home():
    texts = ["common secret"] + ["common word"] * 9
    told = tell_words(texts, least=5)
    assert told == {"common": 10, "word": 9}
    noise = WordNoise(2.0, 1e-3, 2), NoiseKey(1, "a").stream("vocabulary", "")
    noisy = tell_words(texts * 50, least=5, noise=noise)
    assert set(noisy) == {"common", "word", "secret"} and noisy != tell_words(texts * 50, least=5)
    assert tell_words(texts * 50, least=5, noise=noise) == noisy
    public = ["common public"] * 3
    found = agree([told, {"word": 9, "other": 2}], public, documents=23, least=3)
    assert found.words == ("common", "public", "word")
    everything = agree([told, {"other": 2}], public, documents=23, how="union")
    assert everything.words == ("common", "other", "public", "word")
    assert agree([told], public, documents=23, how="public", least=2).words == ("common", "public")
    assert agree([told], public, documents=23, least=3, size=2).words == ("common", "word")
    assert found.id != everything.id
    assert unpack_words(pack_words(found.words)) == list(found.words)
    with pytest.raises(DataError, match="agreed words"):
        agree([{}], ["once"], documents=1, least=5)


def test_bags_count_the_words_that_were_agreed():
    vocabulary = agree([], ["b a a c"] * 5, documents=5)
    bags = vocabulary.bags(["c a zzz a", "", "b"])
    assert bags.toarray().tolist() == [[2, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert bags.has_sorted_indices and bags.dtype == np.float32


def test_weights_do_what_they_say():
    data = documents(60)
    _, _, words = answers(0)
    assert set(document_weights("uniform", words, data.bags, size=7)) == {1.0}
    assert set(document_weights("size", words, data.bags, size=7)) == {7.0}
    bland = np.repeat(words.mean(axis=0, keepdims=True), 60, axis=0)
    sure = document_weights("confidence", words, data.bags, size=1)
    assert sure.min() > document_weights("confidence", bland, data.bags, size=1).max()
    knows = data.bags.toarray() + 1e-3
    knows /= knows.sum(axis=1, keepdims=True)
    better = document_weights("likelihood", knows, data.bags, size=1)
    assert (better > document_weights("likelihood", bland, data.bags, size=1)).all()


def test_disagreement_lowers_a_document_s_weight_and_silence_is_an_error():
    gathered = TopicAggregator(3, 2, 1)
    half = np.full((3, 2), 0.5)
    gathered.add(np.ones(3), half, np.array([[0.0], [1.0], [2.0]]), np.ones((3, 1)))
    gathered.add(np.ones(3), half, np.array([[0.0], [-1.0], [-2.0]]), np.ones((3, 1)))
    u = gathered.close().emphasis(1.0)
    assert u[0] == 1 and u[0] > u[1] > u[2] > 0
    # The distances from the barycentre are 0, 1 and 4, their median is 1.
    half_as_strict = gathered.close().emphasis(2.0)
    np.testing.assert_allclose(half_as_strict, np.exp([0.0, -0.5, -2.0]), rtol=1e-12)
    silent = TopicAggregator(2, 2)
    silent.add(np.array([1.0, 0.0]), np.full((2, 2), 0.5))
    with pytest.raises(QuorumError, match="documents without an answer=1"):
        silent.close()


def test_blocks_in_any_order_give_the_same_consensus():
    mean, spread, words = answers(0)
    whole, parts = TopicAggregator(60, WORDS, TOPICS), TopicAggregator(60, WORDS, TOPICS)
    weight = np.linspace(1, 2, 60)
    whole.add(weight, words, mean, spread)
    for block in (slice(40, 60), slice(0, 40)):
        parts.add(weight[block], words[block], mean[block], spread[block], rows=block)
    np.testing.assert_array_equal(whole.close().words, parts.close().words)
    np.testing.assert_array_equal(whole.close().mean, parts.close().mean)


def test_too_wide_a_vocabulary_says_what_to_do():
    with pytest.raises(ScenarioError, match="dense"):
        encode_top(np.zeros((1, 70_000)), np.zeros(70_000, np.float32), 4)


def test_alignment_needs_a_party():
    with pytest.raises(ScenarioError, match="parties=0"):
        align([])

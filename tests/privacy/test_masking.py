"""Laws of the secure sum's arithmetic: masks vanish in the sum and nowhere else."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from fedkd.errors import QuorumError, ReleaseError
from fedkd.intake import FLOOR
from fedkd.methods.method import weighted_sum
from fedkd.methods.weights import teacher_weights
from fedkd.privacy import masking
from fedkd.privacy.secret_shares import join_shares, split_secret

NAMES = [f"party-{index}" for index in range(10)]
SCHEMES = ["uniform", "size", "norm", "bias", "confidence", "entropy", "variance"]


def masked_parties(values, start=0, session="transfer-0"):
    """Return what ten parties send, and their secrets."""
    keys = {name: masking.new_secret() for name in NAMES}
    seeds = {name: masking.new_secret() for name in NAMES}
    public = {name: masking.public_key(key) for name, key in keys.items()}
    sent = {}
    for name, own in zip(NAMES, values, strict=True):
        pairs = {o: masking.agree(keys[name], public[o], session) for o in NAMES if o != name}
        sent[name] = masking.mask(own, start, name, seeds[name], pairs)
    return sent, keys, public, seeds


@pytest.mark.parametrize("gone", [[], ["party-3"], ["party-0", "party-9"]])
def test_sum_is_exact_whoever_is_missing(gone):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**32, (10, 40, 4), dtype=np.uint32)
    sent, keys, public, seeds = masked_parties(values, start=128)
    alive = [name for name in NAMES if name not in gone]
    total = np.zeros((40, 4), np.uint32)
    for name in alive:
        total += sent[name]
    silent = [
        (there, lost, masking.agree(keys[lost], public[there], "transfer-0"))
        for lost in gone
        for there in alive
    ]
    bare = masking.unmask(total, 128, [seeds[name] for name in alive], silent)
    wanted = np.zeros((40, 4), np.uint32)
    for name in alive:
        wanted += values[NAMES.index(name)]
    assert (bare == wanted).all()
    if gone:
        assert (masking.unmask(total, 128, [seeds[name] for name in alive], []) != wanted).any()


def test_masked_values_look_the_same_whatever_is_under_them():
    values = np.zeros((10, 5000, 2), np.uint32)
    sent, *_ = masked_parties(values)
    flat = sent["party-4"].ravel()
    assert abs(flat.mean() / 2**32 - 0.5) < 0.02
    assert len(np.unique(flat)) == flat.size
    counts = np.bincount(flat >> 28, minlength=16)
    assert counts.min() > 0.8 * flat.size / 16
    two = [masking.stream(b"k" * 32, start, (8, 4)) for start in (0, 8)]
    assert (two[0] != two[1]).all()


def test_both_ends_agree_and_purposes_differ():
    one, two = masking.new_secret(), masking.new_secret()
    there = masking.agree(one, masking.public_key(two), "transfer")
    assert there == masking.agree(two, masking.public_key(one), "transfer")
    assert there != masking.agree(one, masking.public_key(two), "test")
    with pytest.raises(ReleaseError, match="public key"):
        masking.agree(one, b"short", "transfer")


def test_sealed_share_opens_for_its_holder_alone():
    key = masking.new_secret()
    sealed = masking.seal(key, b"share", "a to b")
    assert masking.unseal(key, sealed, "a to b") == b"share"
    for bad in (
        (key, sealed, "a to c"),
        (masking.new_secret(), sealed, "a to b"),
        (key, sealed[:-1] + bytes([sealed[-1] ^ 1]), "a to b"),
        (key, b"", "a to b"),
    ):
        with pytest.raises(ReleaseError, match="mask share"):
            masking.unseal(*bad)


def test_any_majority_opens_a_secret_and_fewer_do_not():
    secret = masking.new_secret()
    cut = split_secret(secret, 6, NAMES)
    for start in range(5):
        some = {name: cut[name] for name in NAMES[start : start + 6]}
        assert join_shares(some, 6, "a") == secret
    with pytest.raises(QuorumError, match="at least 6"):
        join_shares({name: cut[name] for name in NAMES[:5]}, 6, "a")
    forged = {name: cut[name] for name in NAMES[:6]}
    forged["party-2"] = forged["party-2"][:10]
    with pytest.raises(ReleaseError, match="fit together"):
        join_shares(forged, 6, "a")
    wrong = {name: cut[name] for name in NAMES[:6]}
    wrong["party-2"] = wrong["party-2"][:4] + bytes(len(secret) + 16)
    with suppress(ReleaseError):
        assert masking.commitment(join_shares(wrong, 6, "a")) != masking.commitment(secret)
    with pytest.raises(ReleaseError, match="threshold"):
        split_secret(secret, 11, NAMES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weighting_at_the_parties_is_weighting_at_the_server(scheme):
    generator = np.random.default_rng(3)
    raw = generator.dirichlet([0.3] * 5, (10, 200))
    raw[0, 0] = [1, 0, 0, 0, 0]
    sizes, bias = generator.integers(5, 500, 10), generator.dirichlet([1] * 5, 10)
    probs = raw + FLOOR
    probs /= probs.sum(axis=-1, keepdims=True)
    weights = teacher_weights(scheme, probs, sizes.astype(float), bias)
    wanted = weighted_sum(weights, probs)
    steps = masking.scale(10, scheme)
    total = np.zeros((200, 6), np.uint32)
    for own, rows, vector in zip(raw, sizes, bias, strict=True):
        values = masking.weighted_rows(own, scheme, share=rows / sizes.sum(), bias=vector)
        exact = values.sum(axis=0)
        assert (exact * steps < 2**32 * 200).all()
        total += masking.quantise(values, steps)
    error = masking.rounding_error(10, total)
    assert np.abs(masking.mixture(total) - wanted).max() <= error < 1e-5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("parties", [3, 10, 1000])
def test_no_sum_leaves_the_modulus(scheme, parties):
    extreme = np.array([[1.0, 0.0, 0.0]])
    share = 1.0 if scheme == "size" else 1 / parties
    top = masking.weighted_rows(extreme, scheme, share=share, bias=np.array([0.0, 1.0, 0.0]))
    count = 1 if scheme == "size" else parties
    whole = masking.quantise(top, masking.scale(parties, scheme)).astype(np.int64)
    assert whole.max() * count < 2**32
    assert (whole[:, :-1] > 0).any()


def test_row_without_weight_is_uniform():
    assert masking.mixture(np.zeros((2, 4), np.uint32)) == pytest.approx(np.full((2, 3), 1 / 3))

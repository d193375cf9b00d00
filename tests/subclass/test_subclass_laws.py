"""Laws of the subclass mathematics (Loo et al., arXiv 2409.20449, and its federated designs)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkd.errors import ReleaseError, ScenarioError
from fedkd.subclass.align import aligned_mean, procrustes, standing
from fedkd.subclass.basis import low_rank_basis, matched, principal_basis, rotate, rotation
from fedkd.subclass.landmarks import landmark_scores
from fedkd.subclass.projection import head_directions, project_out
from fedkd.subclass.split import (
    Split,
    conditionals,
    scores,
    softened,
    split_probabilities,
    usable,
)
from fedkd.subclass.statistics import block_moments, class_moments

RNG = np.random.default_rng(0)


def teacher(rows: int = 400, width: int = 24, labels: int = 2):
    """Embeddings with structure, a head, and soft memberships."""
    draw = np.random.default_rng(5)
    axes = 0.8 ** np.arange(width)
    embeddings = draw.normal(size=(rows, width)) * axes + 3
    head = draw.normal(size=(labels, width))
    membership = draw.dirichlet(np.full(labels, 0.3), rows)
    return embeddings, head, membership


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_the_head_cannot_see_what_is_left(labels):
    embeddings, _, _ = teacher()
    head = RNG.normal(size=(labels, embeddings.shape[1]))
    directions = head_directions(head)
    left = project_out(embeddings, directions)
    rows = np.concatenate([np.zeros_like(head), head]) if labels == 1 else head
    centred = rows - rows.mean(axis=0)
    assert np.abs(left @ centred.T).max() < 1e-10
    assert len(directions) == max(labels - 1, 1)
    np.testing.assert_allclose(project_out(left, directions), left, atol=1e-12)


def test_directions_of_every_label_are_hidden_from_the_head():
    embeddings, head, membership = teacher()
    rows = project_out(embeddings, head_directions(head))
    for moments in class_moments(rows, membership):
        basis = rotate(principal_basis(moments, 5), "random", np.random.default_rng(1))
        assert np.abs((head - head.mean(axis=0)) @ basis.directions).max() < 1e-10


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 199), max_size=4, unique=True), seed=st.integers(0, 9))
def test_chunked_merged_and_one_pass_moments_agree(cuts, seed):
    draw = np.random.default_rng(seed)
    rows, weights = draw.normal(size=(200, 7)) + 5, draw.random(200)
    whole = block_moments(rows, weights)
    parts = zip(np.split(rows, sorted(cuts)), np.split(weights, sorted(cuts)), strict=True)
    found = [block_moments(part, share) for part, share in parts]
    merged = found[0]
    for part in found[1:]:
        merged = merged.merge(part)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    plain = np.cov(rows.T, aweights=weights, ddof=0)
    np.testing.assert_allclose(whole.covariance, plain, rtol=1e-10, atol=1e-12)
    (streamed,) = class_moments(rows, weights[:, None], block_rows=33)
    np.testing.assert_allclose(streamed.covariance, plain, rtol=1e-10, atol=1e-12)


def test_a_memory_mapped_float16_file_is_fitted_as_the_array(tmp_path):
    rows = (RNG.normal(size=(500, 16)) * 0.7 ** np.arange(16) + 20).astype(np.float16)
    np.save(tmp_path / "h.npy", rows)
    mapped = np.load(tmp_path / "h.npy", mmap_mode="r")
    weights = RNG.dirichlet([1, 1], 500)
    for half, exact in zip(
        class_moments(mapped, weights, block_rows=64),
        class_moments(rows.astype(np.float64), weights),
        strict=True,
    ):
        size = np.abs(exact.covariance).max()
        np.testing.assert_allclose(half.covariance, exact.covariance, atol=2e-6 * size)
    np.testing.assert_array_equal(np.asarray(mapped), rows)


def test_rotation_keeps_the_span_and_hadamard_levels_the_variances():
    embeddings, _, membership = teacher()
    moments = class_moments(embeddings, membership)[0]
    plain = principal_basis(moments, 4)
    for kind in ("random", "hadamard"):
        turned = rotate(plain, kind, np.random.default_rng(2))
        angles = np.linalg.svd(plain.directions.T @ turned.directions)[1]
        np.testing.assert_allclose(angles, 1, atol=1e-12)
        spread = np.diag(turned.directions.T @ moments.covariance @ turned.directions)
        assert spread.mean() == pytest.approx(plain.radius**2)
        if kind == "hadamard":
            np.testing.assert_allclose(spread, spread.mean(), rtol=1e-10)
    with pytest.raises(ScenarioError, match="power of 2"):
        rotation(5, "hadamard", np.random.default_rng(0))


def test_scores_have_unit_mean_square_whatever_the_scale_of_the_teacher():
    embeddings, head, membership = teacher()
    split = Split()
    first = scores(embeddings, head, membership, split, "a")
    scaled = scores(1000 * embeddings, head, membership, split, "a")
    np.testing.assert_allclose(first, scaled, rtol=1e-7, atol=1e-9)
    for label in range(2):
        weights = membership[:, label]
        assert np.average((first[:, label] ** 2).mean(axis=1), weights=weights) == pytest.approx(1)


def test_low_rank_fit_finds_the_exact_subspace():
    embeddings, _, membership = teacher(600, 60)
    exact = principal_basis(class_moments(embeddings, membership)[1], 3)
    found = low_rank_basis(embeddings, membership[:, 1], 3, seed=0)
    cosines = np.linalg.svd(exact.directions.T @ found.directions)[1]
    assert cosines.min() > 0.999
    assert found.radius == pytest.approx(exact.radius, rel=1e-2)


@pytest.mark.parametrize("splitter", ["pca", "random-projection", "k-means", "random", "uniform"])
def test_subclasses_of_a_label_sum_to_what_was_known_of_it(splitter):
    embeddings, head, membership = teacher()
    split = Split(splitter=splitter)
    conditional = conditionals(embeddings, head, membership, split, "a")
    np.testing.assert_allclose(conditional.sum(axis=2), 1, atol=1e-12)
    targets = split_probabilities(membership, conditional)
    np.testing.assert_allclose(targets.sum(axis=2), membership, atol=1e-12)
    again = conditionals(embeddings, head, membership, split, "a")
    np.testing.assert_array_equal(conditional, again)


def test_temperature_goes_from_hard_to_uniform():
    embeddings, head, membership = teacher()
    values = scores(embeddings, head, membership, Split(), "a")
    np.testing.assert_allclose(softened(values, 1e9), 0.2, atol=1e-7)
    hard = softened(values, 1e-6)
    np.testing.assert_array_equal(hard.argmax(axis=2), values.argmax(axis=2))
    assert hard.max(axis=2).min() > 0.999


def test_few_rows_reduce_the_subclasses_and_leave_the_rest_empty():
    assert [usable(5, rows) for rows in (0, 3, 4, 6, 12, 400)] == [1, 1, 1, 2, 5, 5]
    embeddings, head, _ = teacher(60)
    membership = np.zeros((60, 2))
    membership[:54, 0] = 1
    membership[54:, 1] = 1
    conditional = conditionals(embeddings, head, membership, Split(), "a")
    assert (conditional[:, 1, 2:] == 0).all() and (conditional[:, 1, :2] > 0).any()
    np.testing.assert_allclose(conditional.sum(axis=2), 1)
    nobody = np.zeros((60, 2))
    nobody[:, 0] = 1
    empty = conditionals(embeddings, head, nobody, Split(), "a")
    assert (empty[:, 1, 0] == 1).all()


def test_constant_columns_and_rows_alike_are_no_obstacle():
    embeddings, head, membership = teacher()
    embeddings[:, :10] = 7
    assert np.isfinite(conditionals(embeddings, head, membership, Split(), "a")).all()
    alike = np.ones_like(embeddings)
    conditional = conditionals(alike, head, membership, Split(), "a")
    np.testing.assert_allclose(conditional.sum(axis=2), 1)


def test_one_subclass_is_no_split():
    embeddings, head, membership = teacher()
    conditional = conditionals(embeddings, head, membership, Split(subclasses=1), "a")
    np.testing.assert_array_equal(conditional, 1)


def test_bad_embeddings_and_settings_are_told():
    embeddings, head, membership = teacher()
    broken = embeddings.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ReleaseError, match="non-finite embeddings=1"):
        conditionals(broken, head, membership, Split(), "a")
    with pytest.raises(ScenarioError, match=r"subclasses \+ labels = 7"):
        conditionals(embeddings[:, :6], head[:, :6], membership, Split(), "a")
    for wrong in ({"subclasses": 0}, {"beta": 0.0}, {"beta": float("nan")}):
        with pytest.raises(ReleaseError, match="subclasses, beta"):
            Split.of(Split().fields() | wrong)
    assert Split.of(Split(seed=3).fields()) == Split(seed=3)


def test_a_planted_rotation_is_found():
    reference = RNG.normal(size=(300, 5))
    weights = RNG.random(300)
    planted = rotation(5, "random", np.random.default_rng(4))
    found = procrustes(reference @ planted.T, reference, weights)
    np.testing.assert_allclose(found, planted, atol=1e-6)
    turned = [reference @ rotation(5, "random", np.random.default_rng(s)) for s in range(3)]
    mean = aligned_mean(turned, [1 / 3] * 3, weights)
    cosines = np.linalg.svd(np.linalg.qr(mean)[0].T @ np.linalg.qr(reference)[0])[1]
    np.testing.assert_allclose(cosines, 1, atol=1e-9)


def test_side_by_side_embeddings_are_the_sum_of_grams():
    weights = RNG.random(120)
    blocks = [
        standing(RNG.normal(size=(120, width)), weights, share)
        for width, share in ((8, 0.5), (20, 0.3), (13, 0.2))
    ]
    gram = sum(block @ block.T for block in blocks)
    side_by_side = np.concatenate(blocks, axis=1)
    np.testing.assert_allclose(gram, side_by_side @ side_by_side.T, atol=1e-12)
    moments = block_moments(side_by_side, weights)
    basis = principal_basis(moments, 4)
    expected = basis.scores(side_by_side)
    found = landmark_scores(gram, np.arange(120), weights, 4)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-9)


def test_a_basis_is_turned_onto_that_of_the_last_round():
    embeddings, _, membership = teacher()
    last = principal_basis(class_moments(embeddings, membership)[0], 4)
    again = rotate(last, "random", np.random.default_rng(5))
    np.testing.assert_allclose(matched(again, last).directions, last.directions, atol=1e-9)
    later = principal_basis(
        class_moments(embeddings + 0.1 * RNG.normal(size=embeddings.shape), membership)[0], 4
    )
    turned = matched(rotate(later, "random", np.random.default_rng(6)), last)
    np.testing.assert_allclose(turned.directions.T @ turned.directions, np.eye(4), atol=1e-9)
    span = later.directions @ later.directions.T
    np.testing.assert_allclose(span @ turned.directions, turned.directions, atol=1e-9)
    apart = [np.linalg.norm(b.directions - last.directions) for b in (turned, later)]
    assert apart[0] <= apart[1] + 1e-12
    with pytest.raises(ValueError, match="same teacher"):
        matched(principal_basis(class_moments(embeddings, membership)[0], 3), last)

"""Scores from Gram columns at landmarks, beside those from the whole Gram matrix."""

from __future__ import annotations

import numpy as np
import pytest

from fedkd.subclass.align import signed, standing
from fedkd.subclass.basis import principal_basis
from fedkd.subclass.landmarks import landmark_grams, landmark_scores, landmarks
from fedkd.subclass.statistics import block_moments

ROWS = 400
DRAW = np.random.default_rng(0)


def teachers(widths: tuple[int, ...]) -> list[np.ndarray]:
    """Embeddings of one population seen by several teachers, with a spectrum that falls."""
    hidden = DRAW.normal(size=(ROWS, 24)) * 0.8 ** np.arange(24)
    return [hidden @ DRAW.normal(size=(24, width)) + 3 for width in widths]


def side_by_side(embeddings, weights, count: int) -> np.ndarray:
    """Scores of the leading axes of all embeddings in one row, each teacher counting alike."""
    blocks = [standing(h, weights, 1 / len(embeddings)) for h in embeddings]
    joined = np.concatenate(blocks, axis=1)
    return signed(principal_basis(block_moments(joined, weights), count).scores(joined))


def summed(embeddings, member, places):
    return sum(landmark_grams(h, member, places) for h in embeddings) / len(embeddings)


@pytest.mark.parametrize("count", [40, ROWS])
def test_landmarks_that_span_the_embeddings_lose_nothing(count):
    embeddings, member = teachers((8, 12, 10)), DRAW.random((ROWS, 2))
    places = landmarks(ROWS, count, 0)
    columns = summed(embeddings, member, places)
    for label in range(2):
        weights = member[:, label]
        exact = side_by_side(embeddings, weights, 4)
        found = landmark_scores(columns[:, label], places, weights, 4)
        np.testing.assert_allclose(found, exact, atol=1e-7)


def test_fewer_landmarks_find_nearly_the_same_leading_axes():
    embeddings, member = teachers((60, 90)), DRAW.random((ROWS, 1))
    weights = member[:, 0]
    exact = side_by_side(embeddings, weights, 3)
    places = landmarks(ROWS, 16, 0)
    found = landmark_scores(summed(embeddings, member, places)[:, 0], places, weights, 3)
    cosines = np.linalg.svd(np.linalg.qr(found)[0].T @ np.linalg.qr(exact)[0])[1]
    assert cosines.min() > 0.9
    nothing = np.linalg.qr(DRAW.normal(size=(ROWS, 3)))[0]
    assert np.linalg.svd(nothing.T @ np.linalg.qr(exact)[0])[1].min() < 0.5


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rounded_columns_do_not_blow_up(dtype):
    """Directions that rounding alone could make would otherwise be divided by almost nothing."""
    embeddings, member = teachers((8, 12)), DRAW.random((ROWS, 1))
    places = landmarks(ROWS, 200, 0)
    exact = summed(embeddings, member, places)[:, 0]
    best = landmark_scores(exact, places, member[:, 0], 3)
    rounded = exact.astype(dtype).astype(np.float64)
    found = landmark_scores(rounded, places, member[:, 0], 3, float(np.finfo(dtype).eps))
    assert abs(found - best).max() < 0.05


def test_a_rotated_or_scaled_teacher_sends_the_same():
    (embeddings,), member = teachers((10,)), DRAW.random((ROWS, 2))
    places = landmarks(ROWS, 30, 1)
    turn = np.linalg.qr(DRAW.normal(size=(10, 10)))[0]
    first = landmark_grams(embeddings, member, places)
    second = landmark_grams(7 * embeddings @ turn + 2, member, places)
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_the_choice_is_the_same_for_all_and_bounded_by_the_rows():
    np.testing.assert_array_equal(landmarks(50, 10, 3), landmarks(50, 10, 3))
    assert not np.array_equal(landmarks(50, 10, 3), landmarks(50, 10, 4))
    np.testing.assert_array_equal(landmarks(8, 10, 0), np.arange(8))


def test_a_label_without_rows_or_alike_rows_is_no_obstacle():
    member = np.zeros((20, 2))
    member[:, 0] = 1
    columns = landmark_grams(np.ones((20, 4)), member, np.arange(5))
    for label in range(2):
        found = landmark_scores(columns[:, label], np.arange(5), member[:, label], 3)
        assert np.isfinite(found).all()

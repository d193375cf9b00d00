"""Every measure against scikit-learn, small cases worked by hand, and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss

from fedkd.errors import DataError
from fedkd.metrics.accuracy import accuracy, macro_f1
from fedkd.metrics.calibration import (
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from fedkd.metrics.scores import MEASURES, score
from fedkd.metrics.semantics import (
    micro_semantic_distance,
    semantic_distance,
    transport_to_truth,
)

Case = tuple[NDArray[np.float64], NDArray[np.int64]]
LINE = np.arange(5.0)[:, None]
LINE_COST = np.abs(LINE - LINE.T)


@st.composite
def predictions(draw: st.DrawFn, labels: int | None = None) -> Case:
    k = labels or draw(st.integers(2, 6))
    n = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probs = generator.dirichlet(np.full(k, draw(st.floats(0.3, 5.0))), size=n)
    probs = (probs + 1e-4) / (probs + 1e-4).sum(axis=1, keepdims=True)
    return probs, generator.integers(0, k, size=n)


@given(predictions())
def test_accuracy_f1_and_nll_are_those_of_sklearn(case: Case) -> None:
    probs, truth = case
    predicted = probs.argmax(axis=1)
    assert accuracy(truth, predicted) == pytest.approx(accuracy_score(truth, predicted))
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert negative_log_likelihood(probs, truth) == pytest.approx(
        log_loss(truth, probs, labels=range(probs.shape[1]))
    )


def test_macro_f1_counts_labels_of_truth_or_prediction_only() -> None:
    truth, predicted = np.array([0, 0, 4]), np.array([0, 4, 4])
    assert macro_f1(truth, predicted) == pytest.approx(2 / 3)
    assert macro_f1(np.array([0, 0]), np.array([0, 3])) == pytest.approx(1 / 3)


def test_semantic_distance_cancels_where_transport_does_not() -> None:
    probs, truth = np.array([[0.5, 0, 0, 0, 0.5]]), np.array([2])
    assert semantic_distance(probs, truth, LINE) == 0
    assert transport_to_truth(probs, truth, LINE_COST) == 2


def test_semantic_distance_weighs_labels_not_rows() -> None:
    probs = np.eye(5)[[0, 0, 0, 4]]
    truth = np.array([0, 0, 0, 2])
    assert semantic_distance(probs, truth, LINE) == pytest.approx((0 + 2) / 2)
    assert micro_semantic_distance(probs, truth, LINE) == pytest.approx((0 + 0 + 0 + 2) / 4)


def test_transport_reads_an_asymmetric_cost_from_prediction_to_truth() -> None:
    cost = np.array([[0.0, 3.0], [7.0, 0.0]])
    assert transport_to_truth(np.array([[0.75, 0.25]]), np.array([1]), cost) == pytest.approx(2.25)


@given(predictions(labels=5))
def test_semantic_distance_never_exceeds_transport_of_each_label(case: Case) -> None:
    probs, truth = case
    for label in np.unique(truth):
        rows = truth == label
        sd = semantic_distance(probs[rows], truth[rows], LINE)
        assert sd <= transport_to_truth(probs[rows], truth[rows], LINE_COST) + 1e-12


@given(predictions())
def test_one_hot_cost_is_the_mass_off_the_truth(case: Case) -> None:
    probs, truth = case
    cost = 1 - np.eye(probs.shape[1])
    off = 1 - probs[np.arange(len(truth)), truth]
    assert transport_to_truth(probs, truth, cost) == pytest.approx(off.mean())


def test_perfect_predictions_have_perfect_scores() -> None:
    truth = np.array([0, 3, 1, 4, 2])
    scores = score(np.eye(5)[truth], truth, LINE_COST, LINE)
    assert [getattr(scores, m) for m in MEASURES] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert score(np.eye(5)[truth], truth, LINE_COST, None).semantic_distance is None


def test_nll_is_floored_where_the_truth_has_no_mass() -> None:
    assert negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(
        -np.log(1e-12)
    )


def test_ece_is_zero_where_confidence_is_accuracy() -> None:
    probs = np.repeat([[0.8, 0.2], [0.6, 0.4]], [10, 5], axis=0)
    truth = np.array([0] * 8 + [1] * 2 + [0] * 3 + [1] * 2)
    assert expected_calibration_error(probs, truth) == pytest.approx(0)


def test_ece_of_sure_and_wrong_is_one() -> None:
    assert expected_calibration_error(np.eye(2)[[0, 0]], np.array([1, 1])) == 1


def test_ece_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.55, 0.45]])
    truth = np.array([0, 1, 0, 0])
    assert expected_calibration_error(probs, truth) == pytest.approx(0.5 * 0.4 + 0.5 * 0.45)


@given(predictions())
def test_reliability_bins_hold_every_row_once(case: Case) -> None:
    probs, truth = case
    bins = reliability(probs, truth)
    used = bins.rows > 0
    assert bins.rows.sum() == len(truth)
    assert (bins.confidence[used] > bins.edges[:-1][used]).all()
    assert (bins.confidence[used] <= bins.edges[1:][used] + 1e-12).all()
    hits = np.sum(bins.rows[used] * bins.accuracy[used])
    assert hits == pytest.approx(np.sum(probs.argmax(axis=1) == truth))


@given(predictions(labels=5))
def test_scores_do_not_depend_on_the_order_of_rows_or_labels(case: Case) -> None:
    probs, truth = case
    generator = np.random.default_rng(int(probs[0, 0] * 2**32))
    rows, labels = generator.permutation(len(truth)), generator.permutation(5)
    points = generator.normal(size=(5, 2))
    cost = np.linalg.norm(points[:, None] - points[None], axis=-1)
    place = np.argsort(labels)
    before = score(probs, truth, cost, points)
    by_row = score(probs[rows], truth[rows], cost, points)
    by_label = score(probs[:, labels], place[truth], cost[np.ix_(labels, labels)], points[labels])
    for measure in MEASURES:
        assert getattr(by_row, measure) == pytest.approx(getattr(before, measure))
        assert getattr(by_label, measure) == pytest.approx(getattr(before, measure))


@pytest.mark.parametrize(
    ("probs", "truth", "word"),
    [
        (np.empty((0, 3)), np.empty(0, np.int64), "test rows=0"),
        (np.array([[0.5, 0.5]]), np.array([-1]), "lie in 0..1"),
        (np.array([[0.5, 0.5]]), np.array([2]), "0..1"),
        (np.array([[0.5, np.nan]]), np.array([0]), "non-finite"),
        (np.array([[0.9, 0.5]]), np.array([0]), "simplex"),
        (np.array([[1.2, -0.2]]), np.array([0]), "simplex"),
        (np.array([[0.5, 0.5]]), np.array([0, 1]), "shapes"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_remedy(
    probs: NDArray[np.float64], truth: NDArray[np.int64], word: str
) -> None:
    with pytest.raises(DataError, match=rf"Expected .*{word}.*Try ") as caught:
        score(probs, truth, 1 - np.eye(probs.shape[1]), None)
    assert "\n" not in str(caught.value)


def test_cost_and_coordinates_of_another_label_set_are_refused() -> None:
    probs, truth = np.array([[0.5, 0.5]]), np.array([0])
    with pytest.raises(DataError, match=r"cost\.shape"):
        score(probs, truth, LINE_COST, None)
    with pytest.raises(DataError, match=r"coordinates\.shape"):
        score(probs, truth, 1 - np.eye(2), LINE)

"""How far from the truth a prediction lies when labels have a distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import DataError, expected
from fedkd.metrics.checks import check_predictions


def semantic_distance(
    probs: NDArray[np.float64], truth: NDArray[np.int64], coordinates: NDArray[np.float64]
) -> float:
    """Return the macro Semantic Distance of Bhardwaj et al., COLING 2022.

    SD = (1/|Y|) Σ_{y∈Y} mean_{x: y(x)=y} ‖Σ_c s_c(x) e_c - e_{y(x)}‖₂, where Y are the labels
    present in ``truth``. ``probs`` (n, labels), ``truth`` (n,), ``coordinates`` (labels, d); in
    the unit of the coordinates, lower is better. Two wrongs on either side of the truth cancel
    (see :func:`transport_to_truth`), and confident predictions score better than unsure ones.
    """
    distance = _distance_to_truth(probs, truth, coordinates)
    rows = np.bincount(truth)
    present = rows > 0
    return float(np.mean(np.bincount(truth, distance)[present] / rows[present]))


def micro_semantic_distance(
    probs: NDArray[np.float64], truth: NDArray[np.int64], coordinates: NDArray[np.float64]
) -> float:
    """Return the Semantic Distance averaged over rows instead of labels."""
    return float(np.mean(_distance_to_truth(probs, truth, coordinates)))


def transport_to_truth(
    probs: NDArray[np.float64], truth: NDArray[np.int64], cost: NDArray[np.float64]
) -> float:
    """Return the mean transport cost W(s, δ_y) = Σ_c s_c C_{cy} from prediction to truth.

    ``probs`` (n, labels), ``truth`` (n,), ``cost`` (labels, labels); in the unit of the cost,
    lower is better. All mass must go to one label, so no solver is needed.
    """
    check_predictions(probs, truth)
    labels = probs.shape[1]
    if cost.shape != (labels, labels):
        raise DataError(
            expected(
                "cost.shape", cost.shape, f"equal {(labels, labels)}", "one row for each label"
            )
        )
    return float(np.mean(np.einsum("nc,cn->n", probs, cost[:, truth])))


def _distance_to_truth(
    probs: NDArray[np.float64], truth: NDArray[np.int64], coordinates: NDArray[np.float64]
) -> NDArray[np.float64]:
    check_predictions(probs, truth)
    if coordinates.ndim != 2 or len(coordinates) != probs.shape[1]:
        raise DataError(
            expected(
                "coordinates.shape",
                coordinates.shape,
                f"equal ({probs.shape[1]}, d)",
                "one point for each label",
            )
        )
    distance: NDArray[np.float64] = np.linalg.norm(probs @ coordinates - coordinates[truth], axis=1)
    return distance

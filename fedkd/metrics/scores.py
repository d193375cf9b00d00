"""The six measures that every row of a report has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.metrics.accuracy import accuracy, macro_f1
from fedkd.metrics.calibration import expected_calibration_error, negative_log_likelihood
from fedkd.metrics.checks import check_predictions
from fedkd.metrics.semantics import semantic_distance, transport_to_truth


@dataclass(frozen=True)
class Scores:
    """Measures of one set of predictions.

    ``semantic_distance`` is None where the labels have no coordinates; ``w1`` is the mean
    transport cost to the truth; ``nll`` is in nats; ``ece`` has 15 bins.
    """

    accuracy: float
    macro_f1: float
    semantic_distance: float | None
    w1: float
    nll: float
    ece: float


MEASURES: tuple[str, ...] = tuple(field.name for field in fields(Scores))


def score(
    probs: NDArray[np.float64],
    truth: NDArray[np.int64],
    cost: NDArray[np.float64],
    coordinates: NDArray[np.float64] | None,
) -> Scores:
    """Measure ``probs`` (n, labels) against ``truth`` (n,).

    ``cost`` (labels, labels) is the ground cost of ``w1``; ``coordinates`` (labels, d) are the
    points of the Semantic Distance. Of equally probable labels the first is predicted. Raises
    :class:`~fedkd.errors.DataError` where n = 0, a true label is unknown or shapes disagree.
    """
    probs = np.asarray(probs, dtype=np.float64)
    truth = np.asarray(truth, dtype=np.int64)
    check_predictions(probs, truth)
    predicted = probs.argmax(axis=1)
    return Scores(
        accuracy=accuracy(truth, predicted),
        macro_f1=macro_f1(truth, predicted),
        semantic_distance=None
        if coordinates is None
        else semantic_distance(probs, truth, coordinates),
        w1=transport_to_truth(probs, truth, cost),
        nll=negative_log_likelihood(probs, truth),
        ece=expected_calibration_error(probs, truth),
    )


def score_parties(
    probs: NDArray[np.float64],
    truth: NDArray[np.int64],
    owner: NDArray[np.int64],
    parties: Sequence[str],
    *,
    cost: NDArray[np.float64],
    coordinates: NDArray[np.float64] | None,
) -> dict[str, Any]:
    """Return the measures of a prediction by name, pooled and on each party's own rows.

    ``owner`` (n,) is each row's party as its number; a party named "" is left out.
    """
    pooled: dict[str, Any] = asdict(score(probs, truth, cost, coordinates))
    own = {}
    for index, party in enumerate(parties):
        mine = owner == index
        if party and mine.any():
            own[party] = asdict(score(probs[mine], truth[mine], cost, coordinates))
    return pooled | {"parties": own}

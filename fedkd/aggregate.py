"""One distribution per row out of many teachers', in one pass over their files, block by block.

Memory depends on the block, not on rows × teachers; the answers are (rows, labels) float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedkd.encoding import StoredRows
from fedkd.errors import expected
from fedkd.intake import FLOOR, Intake
from fedkd.methods.weights import Scheme, teacher_weights

try:
    from fedkd import mixing
except ImportError:  # numba has no wheel for this machine
    mixing = None  # type: ignore[assignment]

NUMBERS_AT_ONCE = 2**22
NUMBERS_IN_CACHE = 320_000
Floats = NDArray[np.float64]
Single = NDArray[np.float32]
Robust = Literal["median", "trimmed-mean"]


def blocks(
    intake: Intake, scheme: Scheme, *, normalise: bool = True
) -> Iterator[tuple[Floats, Floats]]:
    """Yield probabilities (teachers, rows, labels) and weights (teachers, rows), in row order."""
    step = rows_at_once(intake)
    for start in range(0, intake.rows, step):
        probs = intake.probs(start, min(start + step, intake.rows))
        there = None if intake.present is None else intake.present[:, start : start + step]
        yield (
            probs,
            teacher_weights(
                scheme, probs, intake.sizes, intake.bias, normalise=normalise, present=there
            ),
        )


def rows_at_once(intake: Intake) -> int:
    """Return how many rows of all teachers make a block of about 32 MiB."""
    each = max(1, len(intake.parties) * intake.labels)
    return min(4096, max(1, NUMBERS_AT_ONCE // each))


def mixture(intake: Intake, scheme: Scheme = "size") -> Single:
    """Return Σ_k w_k p_k of every row, the weights summing to one.

    Weights that do not depend on the row are added in one compiled pass at the speed of memory.
    """
    if scheme in ("uniform", "size") and intake.present is None and mixing is not None:
        stored = [StoredRows.open(intake.path(party)) for party in intake.parties]
        if all(_compiles(rows) for rows in stored):
            shares = np.ones(len(stored)) if scheme == "uniform" else intake.sizes
            shares = shares if shares.sum() > 0 else np.ones(len(stored))
            return _mixture(stored, shares / shares.sum(), intake.rows, intake.labels)
    return _each(intake, scheme, lambda p, w: np.einsum("tr,trk->rk", w, p))


def geometric_mean(intake: Intake, scheme: Scheme = "size") -> Single:
    """Return Π_k p_k^{w_k}/Σ of every row."""

    def mean(probs: Floats, weights: Floats) -> Floats:
        logs = np.einsum("tr,trk->rk", weights, np.log(probs, out=probs))
        return _normalised(np.exp(logs - logs.max(axis=1, keepdims=True)))

    return _each(intake, scheme, mean)


def robust_mean(intake: Intake, kind: Robust, *, trim: float = 0.2) -> Single:
    """Return the median over the teachers label by label, or the mean without the extremes.

    ``trimmed-mean`` leaves out the smallest and the largest ``trim`` of the values (rounded down);
    either is made to sum to one. Raises ValueError unless 0 <= trim < 0.5.
    """
    if not 0 <= trim < 0.5:
        raise ValueError(expected("trim", trim, "lie in [0, 0.5)", "0.2"))
    out = int(trim * len(intake.parties))

    def mean(probs: Floats, _: Floats) -> Floats:
        probs.sort(axis=0)
        if kind == "median":
            return _normalised(np.asarray(np.median(probs, axis=0), np.float64))
        return _normalised(probs[out : len(probs) - out].mean(axis=0))

    return _each(intake, "uniform", mean)


def _each(intake: Intake, scheme: Scheme, mean: Callable[[Floats, Floats], Floats]) -> Single:
    result = np.empty((intake.rows, intake.labels), np.float32)
    start = 0
    for probs, weights in blocks(intake, scheme):
        result[start : start + probs.shape[1]] = mean(probs, weights)
        start += probs.shape[1]
    return result


def _normalised(rows: Floats) -> Floats:
    total = rows.sum(axis=1, keepdims=True)
    return np.asarray(rows / total, np.float64)


def _compiles(stored: StoredRows) -> bool:
    halves = mixing.WIDENS_HALVES and stored.dtype == np.float16
    return len(stored.shape) == 2 and (halves or stored.dtype in (np.float32, np.uint8))


def _mixture(stored: list[StoredRows], shares: Floats, rows: int, labels: int) -> Single:
    result = np.empty((rows, labels), np.float32)
    step = max(1, min(rows, NUMBERS_IN_CACHE // labels))
    total = np.empty((step, mixing.padded(labels)), np.float32)
    weights = np.empty(len(total), np.float32)
    space = np.zeros(4 * (len(total) * labels + mixing.WIDTH), np.uint8)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        total[:count] = 0
        for part, share in zip(stored, shares, strict=True):
            size = part.dtype.itemsize
            part.read_into(space[: count * labels * size], start)
            codes = space[: (count * labels + mixing.WIDTH) * size]
            weights[:] = share
            kind = np.uint16 if size == 2 else part.dtype
            mixing.add_rows(codes.view(kind), labels, weights[:count], np.float32(FLOOR), total)
        result[start : start + count] = total[:count, :labels]
    return result

"""One distribution per row out of many teachers', in one pass over their files, block by block.

Memory depends on the block, not on rows × teachers; the answers are (rows, labels) float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkd.encoding import LEVELS, StoredRows
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
    stored = _compiled(intake, scheme)
    if stored and all(len(part.shape) == 1 for part in stored):
        return _top_mixture(stored, _shares(intake, scheme), intake.rows, intake.labels)
    if stored and all(len(part.shape) == 2 for part in stored):
        return _mixture(stored, _shares(intake, scheme), intake.rows, intake.labels)
    return _each(intake, scheme, lambda p, w: np.einsum("tr,trk->rk", w, p))


def geometric_mean(intake: Intake, scheme: Scheme = "size") -> Single:
    """Return Π_k p_k^{w_k}/Σ of every row."""
    stored = _compiled(intake, scheme)
    if stored and all(len(part.shape) == 2 for part in stored):
        return _geometric(stored, _shares(intake, scheme), intake.rows, intake.labels)

    def mean(probs: Floats, weights: Floats) -> Floats:
        logs = np.einsum("tr,trk->rk", weights, np.log(probs, out=probs))
        return _softmax(logs)

    return _each(intake, scheme, mean)


def robust_mean(intake: Intake, kind: Robust, *, trim: float = 0.2) -> Single:
    """Return the median over the teachers label by label, or the mean without the extremes.

    ``trimmed-mean`` leaves out the smallest and the largest ``trim`` of the values (rounded down);
    either is made to sum to one. Raises ValueError unless 0 <= trim < 0.5.
    """
    if not 0 <= trim < 0.5:
        raise ValueError(expected("trim", trim, "lie in [0, 0.5)", "0.2"))
    count = len(intake.parties)
    out = (count - 1) // 2 if kind == "median" else int(trim * count)
    stored = _compiled(intake, "uniform")
    if stored and all(len(part.shape) == 2 for part in stored):
        return _middle(stored, out, intake.rows, intake.labels)

    def mean(probs: Floats, _: Floats) -> Floats:
        probs.sort(axis=0)
        return _normalised(probs[out : count - out].mean(axis=0))

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


def _softmax(logs: NDArray[np.floating]) -> Floats:
    return _normalised(np.exp(logs - logs.max(axis=1, keepdims=True), dtype=np.float64))


def _shares(intake: Intake, scheme: Scheme) -> Floats:
    shares = np.ones(len(intake.parties)) if scheme == "uniform" else intake.sizes
    shares = shares if shares.sum() > 0 else np.ones(len(shares))
    return np.asarray(shares / shares.sum(), np.float64)


def _compiled(intake: Intake, scheme: Scheme) -> list[StoredRows]:
    """Return the files of an intake that a compiled pass can read; nothing for any other."""
    if scheme not in ("uniform", "size") or intake.present is not None or mixing is None:
        return []
    stored = [StoredRows.open(intake.path(party)) for party in intake.parties]
    return stored if all(_compiles(part) for part in stored) else []


def _compiles(stored: StoredRows) -> bool:
    if len(stored.shape) == 1:
        return stored.dtype.names is not None
    halves = mixing.WIDENS_HALVES and stored.dtype == np.float16
    return len(stored.shape) == 2 and (halves or stored.dtype in (np.float32, np.uint8))


def _codes(part: StoredRows, space: NDArray[np.uint8], start: int, count: int) -> NDArray[Any]:
    """Read rows into ``space`` and return them as the compiled passes take them, flat."""
    size, labels = part.dtype.itemsize, part.shape[1]
    part.read_into(space[: count * labels * size], start)
    kind = np.uint16 if size == 2 else part.dtype
    return space[: (count * labels + mixing.WIDTH) * size].view(kind)


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
            weights[:] = share
            codes = _codes(part, space, start, count)
            mixing.add_rows(codes, labels, weights[:count], np.float32(FLOOR), total)
        result[start : start + count] = total[:count, :labels]
    return result


def _geometric(stored: list[StoredRows], shares: Floats, rows: int, labels: int) -> Single:
    result = np.empty((rows, labels), np.float32)
    step = max(1, min(rows, NUMBERS_IN_CACHE // labels))
    total = np.empty((step, mixing.padded(labels)), np.float32)
    space = np.zeros(4 * (len(total) * labels + mixing.WIDTH), np.uint8)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        total[:count] = 0
        for part, share in zip(stored, shares, strict=True):
            codes = _codes(part, space, start, count)
            # A row's own sum is one factor of all its labels, which the end divides out.
            mixing.add_logs(codes, labels, np.float32(share), np.float32(FLOOR), total[:count])
        result[start : start + count] = _softmax(total[:count, :labels])
    return result


def _middle(stored: list[StoredRows], out: int, rows: int, labels: int) -> Single:
    """Return the mean of the values that are left when ``out`` are dropped at either end."""
    result = np.empty((rows, labels), np.float32)
    network, width = mixing.sorting_network(len(stored)), mixing.padded(labels)
    step = max(1, min(rows, NUMBERS_AT_ONCE // (len(stored) * width)))
    block = np.empty((step, len(stored), width), np.float32)
    total, weights = np.empty((step, width), np.float32), np.ones(step, np.float32)
    space = np.zeros(4 * (step * labels + mixing.WIDTH), np.uint8)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        for k, part in enumerate(stored):
            total[:count] = 0
            codes = _codes(part, space, start, count)
            mixing.add_rows(codes, labels, weights[:count], np.float32(FLOOR), total)
            block[:count, k] = total[:count]
        mixing.sort_columns(block[:count], network)
        kept = block[:count, out : len(stored) - out, :labels].mean(axis=1, dtype=np.float32)
        result[start : start + count] = _normalised(kept.astype(np.float64))
    return result


def _top_mixture(stored: list[StoredRows], shares: Floats, rows: int, labels: int) -> Single:
    result = np.empty((rows, labels), np.float32)
    square = ((np.arange(LEVELS + 1) / LEVELS) ** 2).astype(np.float32)
    step = max(1, min(rows, NUMBERS_IN_CACHE // labels))
    base = np.empty(step, np.float32)
    space = np.empty(step * max(part.row_bytes for part in stored), np.uint8)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        total = result[start : start + count]
        total[:], base[:] = 0, 0
        for part, share in zip(stored, shares, strict=True):
            codes = space[: count * part.row_bytes]
            part.read_into(codes, start)
            kept = part.row_bytes // 3
            weight, floor = np.float32(share), np.float32(FLOOR)
            mixing.add_top(codes, labels, kept, weight, floor, square, total, base[:count])
        total += base[:count, None]
    return result

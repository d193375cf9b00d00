"""Weighted sums of stored distributions, decoded and added in one compiled pass."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fedkd.encoding import LEVELS
from fedkd.transport.vectors import SIZE, Vectors, cgutils, data_of

WIDTH = 16
WIDENS_HALVES = platform.machine() in {"arm64", "aarch64"} or bool(
    llvm.get_host_cpu_features().get("f16c", False)
)


def padded(labels: int) -> int:
    """Return the labels of a row of totals: whole vectors, and one for the rest."""
    return (labels // WIDTH + 1) * WIDTH


@intrinsic
def _mix_row(
    typing: Any, source: Any, at: Any, labels: Any, weight: Any, floor: Any, total: Any, into: Any
) -> tuple[Any, Callable[..., Any]]:
    """Add weight · (p + floor)/Σ(p + floor) to ``total[into:]``, p being ``source[at:]`` decoded.

    Reads up to fifteen codes beyond the row; writes whole vectors.
    """
    signature = types.void(source, types.intp, types.intp, weight, floor, total, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        source, total = (
            context.make_array(sig.args[k])(context, builder, args[k]).data for k in (0, 5)
        )
        row = _Row(builder, 32)
        row.generate(sig.args[0].dtype, source, args[1], args[2], args[3], args[4], total, args[6])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _log_row(
    typing: Any, source: Any, at: Any, labels: Any, weight: Any, floor: Any, total: Any, into: Any
) -> tuple[Any, Callable[..., Any]]:
    """Add weight · log(p + floor) to ``total[into:]``, reading and writing as the one above."""
    signature = types.void(source, types.intp, types.intp, weight, floor, total, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        source, total = data_of(context, builder, sig, args, (0, 5))
        row = _Row(builder, 32)
        row.logs(sig.args[0].dtype, source, args[1], args[2], args[3], args[4], total, args[6])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _exchange(
    typing: Any, rows: Any, low: Any, high: Any, width: Any
) -> tuple[Any, Callable[..., Any]]:
    """Put the smaller of ``rows[low + i]`` and ``rows[high + i]`` first, for i below ``width``."""
    signature = types.void(rows, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        (rows,) = data_of(context, builder, sig, args, (0,))
        _Row(builder, 32).exchange(rows, *args[1:])
        return context.get_dummy_value()

    return signature, generate


class _Row(Vectors):
    """The code for one row of one teacher."""

    def logs(
        self, kind: Any, source: Any, at: Any, labels: Any, weight: Any, floor: Any, total: Any,
        into: Any,
    ) -> None:  # fmt: skip
        b, share, extra = self.builder, self.splat(weight), self.splat(floor)
        with self.across(labels) as i:
            logs = self.log(b.fadd(self._decoded(kind, source, b.add(at, i)), extra))
            here = b.add(into, i)
            self.store(self.fma(share, logs, self.load(total, here)), total, here)

    def exchange(self, rows: Any, low: Any, high: Any, width: Any) -> None:
        b = self.builder
        with self.across(width) as i:
            first, second = b.add(low, i), b.add(high, i)
            x, y = self.load(rows, first), self.load(rows, second)
            smaller = b.fcmp_ordered("<", x, y)
            self.store(b.select(smaller, x, y), rows, first)
            self.store(b.select(smaller, y, x), rows, second)

    def generate(
        self, kind: Any, source: Any, at: Any, labels: Any, weight: Any, floor: Any,
        total: Any, into: Any,
    ) -> None:  # fmt: skip
        b = self.builder
        full = b.and_(labels, self.at(-WIDTH))
        mass = cgutils.alloca_once_value(b, self.full(0.0))
        extra = self.splat(floor)

        def floored(first: Any) -> Any:
            return b.fadd(self._decoded(kind, source, b.add(at, first)), extra)

        with cgutils.for_range_slice(b, self.at(0), full, self.at(WIDTH), SIZE) as (first, _):
            b.store(b.fadd(b.load(mass, typ=self.vector), floored(first)), mass)
        end = b.select(self._inside(b.sub(labels, full)), floored(full), self.full(0.0))
        kind_of_sum = ir.FunctionType(self.scalar, [self.scalar, self.vector])
        reduce = self.function(kind_of_sum, "llvm.vector.reduce.fadd.v16f32")
        parts = b.fadd(b.load(mass, typ=self.vector), end)
        whole = b.call(reduce, [ir.Constant(self.scalar, 0.0), parts], fastmath=("reassoc",))
        scale = self.splat(b.fdiv(weight, whole))
        with cgutils.for_range_slice(b, self.at(0), full, self.at(WIDTH), SIZE) as (first, _):
            here = b.add(into, first)
            self.store(self.fma(scale, floored(first), self.load(total, here)), total, here)
        # A row of totals has a vector more than it needs where the labels fill theirs.
        here = b.add(into, full)
        self.store(self.fma(scale, end, self.load(total, here)), total, here)

    def _inside(self, count: Any) -> Any:
        """Return which of sixteen lanes come before ``count``."""
        b, small = self.builder, ir.IntType(32)
        vector = ir.VectorType(small, WIDTH)
        empty = ir.Constant(vector, ir.Undefined)
        one = b.insert_element(empty, b.trunc(count, small), self.at(0))
        limit = b.shuffle_vector(one, empty, ir.Constant(vector, [0] * WIDTH))
        return b.icmp_signed("<", ir.Constant(vector, list(range(WIDTH))), limit)

    def _decoded(self, kind: Any, source: Any, at: Any) -> Any:
        b = self.builder
        if kind == types.float32:
            return self.load(source, at)
        code = ir.IntType(8) if kind == types.uint8 else ir.HalfType()
        vector = ir.VectorType(code, WIDTH)
        stored = ir.IntType(8) if kind == types.uint8 else ir.IntType(16)
        place = b.gep(source, [at], source_etype=stored)
        codes = b.load(
            b.bitcast(place, ir.PointerType(vector)), align=stored.width // 8, typ=vector
        )
        if kind != types.uint8:
            return b.fpext(codes, self.vector)
        root = b.fmul(b.uitofp(codes, self.vector), self.full(1 / LEVELS))
        return b.fmul(root, root)


_row: Any = _mix_row
_logs: Any = _log_row
_swap: Any = _exchange


@njit(cache=True, nogil=True, error_model="numpy")
def add_rows(
    source: NDArray[Any], labels: int, weights: NDArray[np.float32], floor: np.float32,
    total: NDArray[np.float32],
) -> None:  # fmt: skip
    """Add w_i · (p_i + floor)/Σ to row i of ``total`` (rows, padded(labels)) float32.

    ``source`` is flat: rows of float32, of uint16 (the bits of float16) or of uint8 (square roots),
    and sixteen more of anything; ``weights`` is (rows,) float32.
    """
    flat, width = total.reshape(-1), total.shape[1]
    for row in range(len(weights)):
        _row(source, row * labels, labels, weights[row], floor, flat, row * width)


@njit(cache=True, nogil=True, error_model="numpy")
def add_logs(
    source: NDArray[Any], labels: int, weight: np.float32, floor: np.float32,
    total: NDArray[np.float32],
) -> None:  # fmt: skip
    """Add w · log(p_i + floor) to row i of ``total``; arguments as of :func:`add_rows`."""
    flat, width = total.reshape(-1), total.shape[1]
    for row in range(len(total)):
        _logs(source, row * labels, labels, weight, floor, flat, row * width)


@njit(cache=True, nogil=True, error_model="numpy")
def add_top(
    source: NDArray[np.uint8], labels: int, top: int, weight: np.float32, floor: np.float32,
    square: NDArray[np.float32], total: NDArray[np.float32], base: NDArray[np.float32],
) -> None:  # fmt: skip
    """Add w · (p_i + floor)/Σ to row i of ``total`` + ``base``, of rows of the likeliest labels.

    ``source`` is flat bytes: for each row ``top`` labels in two bytes and their codes; ``square``
    (256,) what a code stands for. ``base`` (rows,) is to be added to all labels of a row.
    """
    others, none = np.float32(max(labels - top, 1)), np.float32(0)
    for row in range(len(base)):
        first = row * 3 * top
        kept = none
        for k in range(top):
            kept += square[source[first + 2 * top + k]]
        rest = max(np.float32(1) - kept, none) / others
        scale = weight / (kept + rest * np.float32(labels - top) + floor * np.float32(labels))
        base[row] += scale * (rest + floor)
        for k in range(top):
            label = source[first + 2 * k] + 256 * source[first + 2 * k + 1]
            if label >= labels:
                continue
            total[row, label] += scale * (square[source[first + 2 * top + k]] - rest)


@njit(cache=True, nogil=True, error_model="numpy")
def sort_columns(rows: NDArray[np.float32], pairs: NDArray[np.int64]) -> None:
    """Sort the columns of each of ``rows`` (blocks, n, width) by the ``pairs`` of a network."""
    flat, (blocks, count, width) = rows.reshape(-1), rows.shape
    for block in range(blocks):
        start = block * count * width
        for k in range(len(pairs)):
            _swap(flat, start + pairs[k, 0] * width, start + pairs[k, 1] * width, width)


def sorting_network(count: int) -> NDArray[np.int64]:
    """Return the exchanges (pairs, 2) that sort ``count`` values (Batcher 1968)."""
    pairs = []
    size = 1
    while size < count:
        step = size
        while step:
            for start in range(step % size, count - step, 2 * step):
                for i in range(start, min(start + step, count - step)):
                    if i // (2 * size) == (i + step) // (2 * size):
                        pairs.append((i, i + step))
            step //= 2
        size *= 2
    return np.array(pairs, np.int64).reshape(-1, 2)

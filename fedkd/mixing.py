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
from fedkd.transport.vectors import SIZE, Vectors, cgutils

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


class _Row(Vectors):
    """The code for one row of one teacher."""

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

"""One tile of a Sinkhorn half-step for 32 instances at once (16 in float64), in LLVM vectors.

Numba's own loops do not keep a tile of sums in registers, so the tile is written out in LLVM's
vector types. Those exist on every processor: one 512-bit register each where there are such, else
several smaller ones.

Numba keeps machine code by the date of the file that calls it: touch compiled.py after a change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedkd.transport.gibbs import TILE
from fedkd.transport.vectors import REGISTER_BITS, SIZE, Vectors, cgutils

VECTORS = 2
SMALLEST = {32: 1e-37, 64: 1e-300}
LEAST_SUM = {32: 1e-18, 64: 1e-150}
NARROW, WIDE = 0.25, 4.0  # bounds of the ratio that over-relaxation extrapolates

_ESTIMATES = bool(llvm.get_host_cpu_features().get("avx512f", False))


def lanes(bits: int) -> int:
    """Return how many instances of float32 (32) or float64 (64) one tile holds."""
    return VECTORS * REGISTER_BITS // bits


def _half(*, after: bool) -> Any:
    """Return the intrinsic of a half-step that measures its marginal before or after it."""

    @intrinsic
    def step(
        typing: Any, packed: Any, other: Any, own: Any, target: Any, given: Any, across: Any,
        sums: Any, diagonal: Any, share: Any, error: Any, row: Any, labels: Any,
    ) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
        arrays = (packed, other, own, target, given, across, sums, diagonal, share, error)
        signature = types.void(*arrays, types.intp, types.intp)

        def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
            data = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(sig.args[:10], args[:10], strict=True)
            ]
            _Tile(builder, sig.args[0].dtype.bitwidth).generate(*data, *args[10:], after)
            return context.get_dummy_value()

        return signature, generate

    return step


# One half-step for eight labels from ``row`` on, in every lane. With s the sums of the other
# scaling over the other labels, which go to ``sums``, r those of this scaling (``across``) and d
# the ``diagonal``, both scalings of a label are eliminated at once: x of x (s + d y) = target and
# y (r + d x) = given. ``own`` becomes own · t · (1 + share (t' − 1)) with t = x/own and t' kept
# within [1/4, 4]; near the fixed point that is own · t^(1 + share), an over-relaxed step.
# |own (s + d other) − target| is added to ``error``, with ``own`` as it was or as it became.
#
# All arrays are flat and of one float type: ``packed`` holds tiles (labels/8, labels, 8) of the
# kernel without its diagonal, ``diagonal`` is (labels,), ``share`` and ``error`` (lanes,), the
# others (labels, lanes).
update_then_measure = _half(after=True)
measure_then_update = _half(after=False)


class _Tile(Vectors):
    """The code of a tile."""

    def generate(
        self, packed: Any, other: Any, own: Any, target: Any, given: Any, across: Any, sums: Any,
        diagonal: Any, share: Any, error: Any, row: Any, labels: Any, after: bool,
    ) -> None:  # fmt: skip
        b, step = self.builder, self.width
        totals = self._products(packed, other, row, labels)
        shares = [self.load(share, self.at(v * step)) for v in range(VECTORS)]
        errors = [self.load(error, self.at(v * step)) for v in range(VECTORS)]
        for r, group in enumerate(totals):
            label = b.add(row, self.at(r))
            line = b.mul(label, self.at(VECTORS * step))
            d = self.splat(b.load(self.place(diagonal, label), typ=self.scalar))
            for v, slot in enumerate(group):
                at = b.add(line, self.at(v * step))
                s = b.load(slot, typ=self.vector)
                self.store(s, sums, at)
                was, aim = self.load(own, at), self.load(target, at)
                t = self._ratio(s, self.load(across, at), d, was, aim, self.load(given, at))
                kept = self.pick("<", self.pick(">", t, NARROW), WIDE)
                push = self.fma(shares[v], b.fsub(kept, self.full(1.0)), self.full(1.0))
                new = b.fmul(b.fmul(was, t), push)
                self.store(new, own, at)
                whole = self.fma(d, self.load(other, at), s)
                off = b.fsub(b.fmul(new if after else was, whole), aim)
                errors[v] = b.fadd(errors[v], self.call("fabs", off))
        for v in range(VECTORS):
            self.store(errors[v], error, self.at(v * step))

    def _ratio(self, s: Any, r: Any, d: Any, was: Any, aim: Any, given: Any) -> Any:
        """Return x/``was`` for the positive root x of s d x² − (aim − given − s r/d) d x − aim r.

        Of the root's two forms the one without cancellation is taken.
        """
        b = self.builder
        s = self.pick(">", s, LEAST_SUM[self.bits])
        r = self.pick(">", r, LEAST_SUM[self.bits])
        product = b.fmul(b.fmul(s, r), self._reciprocal(d))
        lean = b.fsub(b.fsub(aim, given), product)
        double = b.fadd(aim, aim)
        square = self.fma(lean, lean, b.fmul(b.fadd(double, double), product))
        high = b.fadd(self._root(self.pick(">", square, SMALLEST[self.bits])), self.call("fabs", lean))
        surplus = b.fcmp_ordered(">", lean, self.full(0.0))
        above = b.select(surplus, high, b.fmul(double, r))
        below = b.select(surplus, b.fadd(s, s), b.fmul(d, high))
        return b.fmul(above, self._reciprocal(self.pick(">", b.fmul(below, was), SMALLEST[self.bits])))

    def _products(self, packed: Any, x: Any, row: Any, labels: Any) -> list[list[Any]]:
        """Return where the sums of the tile lie after the loop: registers, once optimised."""
        b = self.builder
        totals = [
            [cgutils.alloca_once(b, self.vector) for _ in range(VECTORS)] for _ in range(TILE)
        ]
        for slot in (slot for group in totals for slot in group):
            b.store(self.full(0.0), slot)
        tile = b.mul(row, labels)
        with cgutils.for_range(b, labels, intp=SIZE) as loop:
            line = b.mul(loop.index, self.at(VECTORS * self.width))
            across = [self.load(x, b.add(line, self.at(v * self.width))) for v in range(VECTORS)]
            first = b.add(tile, b.mul(loop.index, self.at(TILE)))
            for r, group in enumerate(totals):
                entry = b.load(self.place(packed, b.add(first, self.at(r))), typ=self.scalar)
                spread = self.splat(entry)
                for slot, part in zip(group, across, strict=True):
                    b.store(self.fma(spread, part, b.load(slot, typ=self.vector)), slot)
        return totals

    def _reciprocal(self, z: Any) -> Any:
        """1/z; from an estimate of 14 bits and one Newton step where the processor has one."""
        if self.bits == 64 or not _ESTIMATES:
            return self.builder.fdiv(self.full(1.0), z)
        mask = ir.IntType(16)
        kind = ir.FunctionType(self.vector, [self.vector, self.vector, mask])
        estimate = self.function(kind, "llvm.x86.avx512.rcp14.ps.512")
        y = self.builder.call(estimate, [z, self.full(0.0), ir.Constant(mask, -1)])
        again = self.fma(self.builder.fneg(z), y, self.full(2.0))
        return self.builder.fmul(y, again)

    def _root(self, z: Any) -> Any:
        """√z, likewise."""
        if self.bits == 64 or not _ESTIMATES:
            return self.call("sqrt", z)
        b, mask = self.builder, ir.IntType(16)
        kind = ir.FunctionType(self.vector, [self.vector, self.vector, mask])
        estimate = self.function(kind, "llvm.x86.avx512.rsqrt14.ps.512")
        y = b.call(estimate, [z, self.full(0.0), ir.Constant(mask, -1)])
        rough = b.fmul(z, y)
        off = self.fma(b.fneg(rough), y, self.full(1.0))
        return self.fma(b.fmul(rough, self.full(0.5)), off, rough)

"""The inner loops of the compiled solver, in LLVM vectors: products with the kernel, half-steps.

Numba's own loops do not keep a tile of sums in registers, so they are written out in LLVM's vector
types. Those exist on every processor: one 512-bit register each where there are such, else several
smaller ones. Rows of labels are padded with zeros to whole vectors.

Numba keeps machine code by the date of the file that calls it: touch compiled.py after a change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedkd.transport.vectors import REGISTER_BITS, SIZE, Vectors, cgutils

ABREAST = 8  # rows of one tile of sums
SMALLEST = {32: 1e-37, 64: 1e-300}
LEAST_SUM = {32: 1e-18, 64: 1e-150}
NARROW, WIDE = 0.25, 4.0  # bounds of the ratio that over-relaxation extrapolates

_ESTIMATES = bool(llvm.get_host_cpu_features().get("avx512f", False))


def padded(labels: int, bits: int) -> int:
    """Return how many numbers of ``bits`` make whole vectors for so many labels."""
    width = REGISTER_BITS // bits
    return -(-labels // width) * width


def _multiply(vectors: int) -> Any:
    """Return the intrinsic that makes so many vectors of the sums of eight rows."""

    @intrinsic
    def multiply(
        typing: Any, rows: Any, slots: Any, first: Any, kernel: Any, labels: Any, sums: Any,
        width: Any, panel: Any,
    ) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
        whole = types.intp
        signature = types.void(rows, slots, whole, kernel, whole, sums, whole, whole)

        def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
            data = _data(context, builder, sig, args, (0, 1, 3, 5))
            code = _Products(builder, sig.args[0].dtype.bitwidth)
            code.generate(*data, args[2], args[4], args[6], args[7], vectors)
            return context.get_dummy_value()

        return signature, generate

    return multiply


# Write the products of ``rows`` and ``kernel`` to ``sums`` for the eight rows that
# ``slots[first:first + 8]`` number, from the panel ``panel`` on. ``rows`` and ``sums`` are flat
# (slots, width); ``kernel`` holds panels (width/vector, labels, vector), flat.
multiply_three, multiply_two, multiply_one = _multiply(3), _multiply(2), _multiply(1)


@intrinsic
def begin(
    typing: Any, aim: Any, aim_at: Any, given: Any, given_at: Any, diagonal: Any, mean: Any,
    scaling: Any, sums: Any, at: Any,
) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Write a scaling to begin with and the sums behind it to row ``at`` of flat (slots, width).

    Were the labels equally far apart, the sums over the other labels would be about √(mean · mass
    to be moved), those of the other scaling too.
    """
    at_type = types.intp
    signature = types.void(aim, at_type, given, at_type, diagonal, mean, scaling, sums, at_type)

    def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        aim, given, diagonal, scaling, sums = _data(context, builder, sig, args, (0, 2, 4, 6, 7))
        width = context.make_array(sig.args[4])(context, builder, args[4]).nitems
        code = _Elimination(builder, sig.args[0].dtype.bitwidth)
        code.begin(
            (aim, args[1]), (given, args[3]), diagonal, args[5], scaling, sums, args[8], width
        )
        return context.get_dummy_value()

    return signature, generate


def _half_step(*, after: bool) -> Any:
    """Return the intrinsic of a half-step that measures its marginal before or after it."""

    @intrinsic
    def half_step(
        typing: Any, sums: Any, across: Any, other: Any, own: Any, at: Any, aim: Any, aim_at: Any,
        given: Any, given_at: Any, diagonal: Any, share: Any,
    ) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
        whole = types.intp
        signature = sums.dtype(
            sums, across, other, own, whole, aim, whole, given, whole, diagonal, share
        )

        def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
            *rows, aim, given, diagonal = _data(context, builder, sig, args, (0, 1, 2, 3, 5, 7, 9))
            width = context.make_array(sig.args[9])(context, builder, args[9]).nitems
            code = _Elimination(builder, sig.args[0].dtype.bitwidth)
            ends = (aim, args[6]), (given, args[8])
            return code.half_step(*rows, args[4], *ends, diagonal, args[10], width, after)

        return signature, generate

    return half_step


# A half-step of one row. With s the ``sums`` of the other scaling over the other labels, r those of
# this scaling (``across``) and d the ``diagonal``, both scalings of a label are eliminated at once:
# x of x (s + d y) = aim and y (r + d x) = given. ``own`` becomes x · (1 + share (t − 1)) with
# t = x/own kept within [1/4, 4]; near the fixed point that is own · t^(1 + share), an over-relaxed
# step. Returns Σ |own (s + d other) − aim|, with ``own`` as it became or as it was. The row is
# number ``at`` of the first four, flat (slots, width); aim and given are rows of others.
update_then_measure = _half_step(after=True)
measure_then_update = _half_step(after=False)


def _data(
    context: Any, builder: Any, sig: Any, args: Sequence[Any], which: Sequence[int]
) -> list[Any]:
    return [context.make_array(sig.args[k])(context, builder, args[k]).data for k in which]


class _Products(Vectors):
    """The code of a product of eight rows with the kernel, tile by tile."""

    def generate(
        self, rows: Any, slots: Any, kernel: Any, sums: Any, first: Any, labels: Any, width: Any,
        panel: Any, vectors: int,
    ) -> None:  # fmt: skip
        b = self.builder
        lines = [
            b.mul(
                b.load(b.gep(slots, [b.add(first, self.at(r))], source_etype=SIZE), typ=SIZE), width
            )
            for r in range(ABREAST)
        ]
        panels = [
            b.mul(b.mul(b.add(panel, self.at(v)), labels), self.at(self.width))
            for v in range(vectors)
        ]
        tile = [
            [cgutils.alloca_once_value(b, self.full(0.0)) for _ in range(vectors)] for _ in lines
        ]
        for slot in (slot for group in tile for slot in group):
            b.store(self.full(0.0), slot)
        with cgutils.for_range(b, labels, intp=SIZE) as loop:
            across = b.mul(loop.index, self.at(self.width))
            entries = [self.load(kernel, b.add(start, across)) for start in panels]
            for line, group in zip(lines, tile, strict=True):
                one = b.load(self.place(rows, b.add(line, loop.index)), typ=self.scalar)
                spread = self.splat(one)
                for slot, entry in zip(group, entries, strict=True):
                    b.store(self.fma(spread, entry, b.load(slot, typ=self.vector)), slot)
        for line, group in zip(lines, tile, strict=True):
            for v, slot in enumerate(group):
                column = b.mul(b.add(panel, self.at(v)), self.at(self.width))
                self.store(b.load(slot, typ=self.vector), sums, b.add(line, column))


class _Elimination(Vectors):
    """The code of what is done to one row, label by label."""

    def half_step(
        self, sums: Any, across: Any, other: Any, own: Any, row: Any, aim: Any, given: Any,
        diagonal: Any, share: Any, width: Any, after: bool,
    ) -> Any:  # fmt: skip
        b, push = self.builder, self.splat(share)
        line, (aims, aim_line), (givens, given_line) = self._lines(row, aim, given, width)
        error = cgutils.alloca_once(b, self.vector)
        b.store(self.full(0.0), error)
        with cgutils.for_range_slice(b, self.at(0), width, self.at(self.width), SIZE) as (i, _):
            at = b.add(line, i)
            s, d, was = self.load(sums, at), self.load(diagonal, i), self.load(own, at)
            goal = self.load(aims, b.add(aim_line, i))
            x = self._eliminated(
                s, self.load(across, at), d, goal, self.load(givens, b.add(given_line, i))
            )
            t = b.fmul(x, self._estimate(self.pick(">", was, SMALLEST[self.bits])))
            kept = self.pick("<", self.pick(">", t, NARROW), WIDE)
            new = b.fmul(x, self.fma(push, b.fsub(kept, self.full(1.0)), self.full(1.0)))
            self.store(new, own, at)
            whole = self.fma(d, self.load(other, at), s)
            off = b.fsub(b.fmul(new if after else was, whole), goal)
            b.store(b.fadd(b.load(error, typ=self.vector), self.call("fabs", off)), error)
        return self._sum(b.load(error, typ=self.vector))

    def begin(
        self, aim: Any, given: Any, diagonal: Any, mean: Any, scaling: Any, sums: Any, row: Any,
        width: Any,
    ) -> None:  # fmt: skip
        b = self.builder
        line, (aims, aim_line), (givens, given_line) = self._lines(row, aim, given, width)
        apart = cgutils.alloca_once(b, self.vector)
        b.store(self.full(0.0), apart)
        step = self.at(self.width)
        with cgutils.for_range_slice(b, self.at(0), width, step, SIZE) as (i, _):
            x, y = self.load(aims, b.add(aim_line, i)), self.load(givens, b.add(given_line, i))
            off = self.call("fabs", b.fsub(x, y))
            b.store(b.fadd(b.load(apart, typ=self.vector), off), apart)
        moved = b.fmul(self._sum(b.load(apart, typ=self.vector)), ir.Constant(self.scalar, 0.5))
        square = self.fma(
            self.splat(mean), self.splat(moved), self.full(LEAST_SUM[self.bits] ** 1.5)
        )
        level = self._root(square)
        with cgutils.for_range_slice(b, self.at(0), width, step, SIZE) as (i, _):
            x, y = self.load(aims, b.add(aim_line, i)), self.load(givens, b.add(given_line, i))
            u = self._eliminated(level, level, self.load(diagonal, i), x, y)
            self.store(u, scaling, b.add(line, i))
            self.store(level, sums, b.add(line, i))

    def _lines(self, row: Any, aim: Any, given: Any, width: Any) -> tuple[Any, Any, Any]:
        b = self.builder
        ends = ((data, b.mul(number, width)) for data, number in (aim, given))
        return b.mul(row, width), *ends

    def _sum(self, vector: Any) -> Any:
        kind = ir.FunctionType(self.scalar, [self.scalar, self.vector])
        reduce = self.function(kind, f"llvm.vector.reduce.fadd.v{self.width}f{self.bits}")
        none = ir.Constant(self.scalar, 0.0)
        return self.builder.call(reduce, [none, vector], fastmath=("reassoc",))

    def _eliminated(self, s: Any, r: Any, d: Any, aim: Any, given: Any) -> Any:
        """Return the positive root x of s d x² − (aim − given − s r/d) d x − aim r.

        Of the root's two forms the one without cancellation is taken.
        """
        b = self.builder
        s = self.pick(">", s, LEAST_SUM[self.bits])
        r = self.pick(">", r, LEAST_SUM[self.bits])
        product = b.fmul(b.fmul(s, r), self._reciprocal(d))
        lean = b.fsub(b.fsub(aim, given), product)
        double = b.fadd(aim, aim)
        square = self.fma(lean, lean, b.fmul(b.fadd(double, double), product))
        root = self._root(self.pick(">", square, SMALLEST[self.bits]))
        high = b.fadd(root, self.call("fabs", lean))
        surplus = b.fcmp_ordered(">", lean, self.full(0.0))
        above = b.select(surplus, high, b.fmul(double, r))
        below = b.select(surplus, b.fadd(s, s), b.fmul(d, high))
        return b.fmul(above, self._reciprocal(self.pick(">", below, SMALLEST[self.bits])))

    def _reciprocal(self, z: Any) -> Any:
        """1/z; from an estimate of 14 bits and one Newton step where the processor has one."""
        y = self._estimate(z)
        if self.bits == 64 or not _ESTIMATES:
            return y
        again = self.fma(self.builder.fneg(z), y, self.full(2.0))
        return self.builder.fmul(y, again)

    def _estimate(self, z: Any) -> Any:
        """1/z, to 14 bits at least."""
        if self.bits == 64 or not _ESTIMATES:
            return self.builder.fdiv(self.full(1.0), z)
        return self._fourteen_bits("rcp14", z)

    def _root(self, z: Any) -> Any:
        """√z, likewise."""
        if self.bits == 64 or not _ESTIMATES:
            return self.call("sqrt", z)
        b, y = self.builder, self._fourteen_bits("rsqrt14", z)
        rough = b.fmul(z, y)
        off = self.fma(b.fneg(rough), y, self.full(1.0))
        return self.fma(b.fmul(rough, self.full(0.5)), off, rough)

    def _fourteen_bits(self, name: str, z: Any) -> Any:
        mask = ir.IntType(16)
        kind = ir.FunctionType(self.vector, [self.vector, self.vector, mask])
        estimate = self.function(kind, f"llvm.x86.avx512.{name}.ps.512")
        return self.builder.call(estimate, [z, self.full(0.0), ir.Constant(mask, -1)])

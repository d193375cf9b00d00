"""What the compiled solver does to one row of labels: begin, half a step, finish; in LLVM vectors.

Rows are padded to whole vectors: with ones in ``filler``, with zeros elsewhere.

Numba keeps machine code by the date of the file that calls it: touch compiled.py after a change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedkd.transport.vectors import Vectors, cgutils, data_of

LEAST_SUM = {32: 1e-18, 64: 1e-150}
NARROW, WIDE = 0.25, 4.0  # bounds of the ratio that over-relaxation extrapolates


@intrinsic
def begin(
    typing: Any, aim: Any, aim_at: Any, given: Any, given_at: Any, mean: Any, scaling: Any,
    sums: Any, at: Any, width: Any,
) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Write a scaling to begin with and the sums behind it, from ``at`` on.

    Were the labels equally far apart, the sums over the other labels would be about √(mean · mass
    to be moved), those of the other scaling too, and the mean where no mass is to be moved.
    """
    size = types.intp
    signature = types.void(aim, size, given, size, mean, scaling, sums, size, size)

    def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        x, y, scaling, sums = data_of(context, builder, sig, args, (0, 2, 5, 6))
        code = _Elimination(builder, sig.args[0].dtype.bitwidth)
        code.begin((x, args[1]), (y, args[3]), args[4], (scaling, sums), args[7], args[8])
        return context.get_dummy_value()

    return signature, generate


def _half_step(*, measured: bool) -> Any:
    """Return the intrinsic of a half-step, with or without a bound of the error after it."""

    @intrinsic
    def half_step(
        typing: Any, sums: Any, across: Any, other: Any, own: Any, at: Any, aim: Any, aim_at: Any,
        given: Any, given_at: Any, share: Any, width: Any,
    ) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
        size = types.intp
        ends = (aim, size, given, size)
        signature = sums.dtype(sums, across, other, own, size, *ends, share, size)

        def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
            *rows, x, y = data_of(context, builder, sig, args, (0, 1, 2, 3, 5, 7))
            code = _Elimination(builder, sig.args[0].dtype.bitwidth, measured)
            return code.half_step(rows, args[4], (x, args[6]), (y, args[8]), args[9], args[10])

        return signature, generate

    return half_step


# A half-step of one row of a kernel with a unit diagonal. With s the ``sums`` of the other scaling
# over the other labels and r those of this scaling (``across``), both scalings of a label are
# eliminated at once: x of x (s + y) = aim and y (r + x) = given. ``own`` becomes x · (1 + share
# (t − 1)) with t = x/own kept within [1/4, 4]; near the fixed point that is own · t^(1 + share), an
# over-relaxed step. Where measured and share < 0 it is the plain step aim/(s + other), in which
# other · own is as exact as rounding allows whatever it has made of ``other``. The first four are
# read and written from ``at`` on, aim and given from places of their own. Where measured, returns a
# bound of the L1 error of both marginals of the plan of ``own`` and ``other`` as they became,
#     Σ |own (s + other) − aim| + |other (r + own) − given| + s |own − own before|,
# whose last term bounds what r has changed by since it was summed; else zero.
update = _half_step(measured=False)
update_and_measure = _half_step(measured=True)


@intrinsic
def finish(
    typing: Any, s: Any, q: Any, u: Any, v: Any, at: Any, a: Any, a_at: Any, b: Any, b_at: Any,
    filler: Any, tilt: Any, epsilon: Any, labels: Any, width: Any, f: Any, f_at: Any, g: Any,
    g_at: Any,
) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Write f = −ε log(s + v) less its mean and g = −ε (log(b/v) + tilt) plus that.

    Where b is 0, q + u stands for b/v. Returns <a, f> + <b, g>; it and the row are no numbers where
    a logarithm is out of range.
    """
    size = types.intp
    rows = (s, q, u, v, size, a, size, b, size, filler, tilt)
    signature = s.dtype(*rows, epsilon, size, size, f, size, g, size)

    def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        rows = data_of(context, builder, sig, args, (0, 1, 2, 3, 9, 10))
        x, y, f, g = data_of(context, builder, sig, args, (5, 7, 14, 16))
        code = _Elimination(builder, sig.args[0].dtype.bitwidth)
        ends = (x, args[6]), (y, args[8])
        written = (f, args[15]), (g, args[17])
        return code.finish(rows, args[4], *ends, args[11], args[12], args[13], *written)

    return signature, generate


@dataclass(frozen=True)
class _Elimination(Vectors):
    """The code of what is done to one row; ``measured`` is of half-steps."""

    measured: bool = False

    def half_step(
        self, rows: Sequence[Any], at: Any, aim: Any, given: Any, share: Any, width: Any
    ) -> Any:
        """Write a half-step, with a loop for each of over-relaxed, plain and other rows."""
        b, none = self.builder, ir.Constant(self.scalar, 0.0)
        error = cgutils.alloca_once(b, self.vector)
        b.store(self.full(0.0), error)
        push = self.splat(share)

        def loop(plain: bool, push: Any) -> None:
            self._loop(rows, (at, aim, given, width), plain, push, error)

        with b.if_else(b.fcmp_ordered(">", share, none)) as (relaxed, other):
            with relaxed:
                loop(False, push)
            with other:
                if self.measured:
                    with b.if_else(b.fcmp_ordered("<", share, none)) as (settled, moving):
                        with settled:
                            loop(True, None)
                        with moving:
                            loop(False, None)
                else:
                    loop(False, None)
        return self.total(b.load(error, typ=self.vector))

    def _loop(
        self, rows: Sequence[Any], places: Sequence[Any], plain: bool, push: Any, error: Any
    ) -> None:
        b, (sums, across, other, own), (at, aim, given, width) = self.builder, rows, places
        with self.across(width) as i:
            line = b.add(at, i)
            s, goal = self.load(sums, line), self.load(aim[0], b.add(aim[1], i))
            left, r = self.load(given[0], b.add(given[1], i)), self.load(across, line)
            was = self.load(own, line) if push is not None or self.measured else None
            y = self.load(other, line) if plain or self.measured else None
            if plain:
                whole = self.pick(">", b.fadd(s, y), self.smallest)
                new = b.fmul(goal, self.reciprocal(whole))
            else:
                new = self._eliminated(s, r, goal, left)
            if push is not None:
                t = b.fmul(new, self.estimate(self.pick(">", was, self.smallest)))
                kept = self.pick("<", self.pick(">", t, NARROW), WIDE)
                new = b.fmul(new, self.fma(push, b.fsub(kept, self.full(1.0)), self.full(1.0)))
            self.store(new, own, line)
            if self.measured:
                here = self.fma(new, b.fadd(s, y), b.fneg(goal))
                there = self.fma(y, b.fadd(r, new), b.fneg(left))
                off = b.fadd(self.call("fabs", here), self.call("fabs", there))
                moved = self.call("fabs", b.fsub(new, was))
                b.store(b.fadd(b.load(error, typ=self.vector), self.fma(moved, s, off)), error)

    def begin(
        self, aim: Any, given: Any, mean: Any, written: Sequence[Any], at: Any, width: Any
    ) -> None:
        """Write the first scaling and its sums."""
        b = self.builder
        apart = cgutils.alloca_once(b, self.vector)
        b.store(self.full(0.0), apart)
        with self.across(width) as i:
            off = b.fsub(
                self.load(aim[0], b.add(aim[1], i)), self.load(given[0], b.add(given[1], i))
            )
            b.store(b.fadd(b.load(apart, typ=self.vector), self.call("fabs", off)), apart)
        moved = b.fmul(self.total(b.load(apart, typ=self.vector)), ir.Constant(self.scalar, 0.5))
        square = b.fmul(self.splat(mean), b.fadd(self.splat(moved), self.splat(mean)))
        level = self.root(self.pick(">", square, self.smallest))
        with self.across(width) as i:
            x, y = self.load(aim[0], b.add(aim[1], i)), self.load(given[0], b.add(given[1], i))
            self.store(self._eliminated(level, level, x, y), written[0], b.add(at, i))
            self.store(level, written[1], b.add(at, i))

    def finish(
        self, rows: Sequence[Any], at: Any, a: Any, given: Any, epsilon: Any, labels: Any,
        width: Any, first: Any, second: Any,
    ) -> Any:  # fmt: skip
        """Write the potentials and return their value."""
        b = self.builder
        s, q, u, v, filler, tilt = rows
        scale = b.fneg(self.splat(epsilon))
        mean = cgutils.alloca_once(b, self.vector)
        value = cgutils.alloca_once(b, self.vector)
        b.store(self.full(0.0), mean)
        b.store(self.full(0.0), value)
        with self.across(width) as i:
            line = b.add(at, i)
            one, vs = self.load(filler, i), self.load(v, line)
            f = b.fmul(scale, self.log(b.fadd(b.fadd(self.load(s, line), vs), one)))
            goal = self.load(given[0], b.add(given[1], i))
            empty = b.fadd(b.fadd(self.load(q, line), self.load(u, line)), one)
            there = b.fcmp_ordered(">", goal, self.full(0.0))
            safe = b.select(there, vs, self.full(1.0))
            z = b.select(there, b.fmul(goal, self.reciprocal(safe)), empty)
            g = b.fmul(scale, b.fadd(self.log(z), self.load(tilt, i)))
            self.store(f, first[0], b.add(first[1], i))
            self.store(g, second[0], b.add(second[1], i))
            b.store(b.fadd(b.load(mean, typ=self.vector), f), mean)
            part = self.fma(goal, g, b.load(value, typ=self.vector))
            b.store(self.fma(self.load(a[0], b.add(a[1], i)), f, part), value)
        count = b.sitofp(labels, self.scalar)
        middle = self.splat(b.fdiv(self.total(b.load(mean, typ=self.vector)), count))
        with self.across(width) as i:
            for (data, start), shift in ((first, b.fneg(middle)), (second, middle)):
                into = b.add(start, i)
                self.store(b.fadd(self.load(data, into), shift), data, into)
        return self.total(b.load(value, typ=self.vector))

    def _eliminated(self, s: Any, r: Any, aim: Any, given: Any) -> Any:
        """Return the positive root x of s x² − (aim − given − s r) x − aim r.

        Of the root's two forms the one without cancellation is taken.
        """
        b = self.builder
        least = LEAST_SUM[self.bits]
        s, r = self.pick(">", s, least), self.pick(">", r, least)
        product = b.fmul(s, r)
        lean = b.fsub(b.fsub(aim, given), product)
        double = b.fadd(aim, aim)
        square = self.fma(lean, lean, b.fmul(b.fadd(double, double), product))
        root = self.root(self.pick(">", square, self.smallest))
        high = b.fadd(root, self.call("fabs", lean))
        surplus = b.fcmp_ordered(">", lean, self.full(0.0))
        above = b.select(surplus, high, b.fmul(double, r))
        below = b.select(surplus, b.fadd(s, s), high)
        return b.fmul(above, self.reciprocal(below))

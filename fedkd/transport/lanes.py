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
NARROW, WIDE = 0.25, 4.0  # bounds of the ratio that over-relaxation extrapolates

_ESTIMATES = bool(llvm.get_host_cpu_features().get("avx512f", False))


def lanes(bits: int) -> int:
    """Return how many instances of float32 (32) or float64 (64) one tile holds."""
    return VECTORS * REGISTER_BITS // bits


@intrinsic
def rescale_tile(
    typing: Any, packed: Any, x: Any, own: Any, target: Any, sums: Any, share: Any, error: Any,
    row: Any, labels: Any,
) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Do one half-step of Sinkhorn for eight labels from ``row`` on, in every lane.

    s = G x goes to ``sums``. With t = target/(s · own), ``own`` becomes own · t · (1 + share (t' −
    1)), t' being t kept within [1/4, 4]. Near the fixed point that is own · t^(1 + share), an
    over-relaxed step, and the fixed point is the same. |s · own − target| is added to ``error``.

    All arrays are flat and of one float type: ``packed`` holds tiles (labels/8, labels, 8), ``x``,
    ``own``, ``target``, ``sums`` (labels, lanes), ``share`` and ``error`` (lanes,).
    """
    signature = types.void(packed, x, own, target, sums, share, error, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        data = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(sig.args[:7], args[:7], strict=True)
        ]
        _Tile(builder, sig.args[0].dtype.bitwidth).generate(*data, *args[7:])
        return context.get_dummy_value()

    return signature, generate


class _Tile(Vectors):
    """The code of a tile."""

    def generate(
        self, packed: Any, x: Any, own: Any, target: Any, sums: Any, share: Any, error: Any,
        row: Any, labels: Any,
    ) -> None:  # fmt: skip
        b, step = self.builder, self.width
        totals = self._products(packed, x, row, labels)
        shares = [self.load(share, self.at(v * step)) for v in range(VECTORS)]
        errors = [self.load(error, self.at(v * step)) for v in range(VECTORS)]
        for r, group in enumerate(totals):
            line = b.mul(b.add(row, self.at(r)), self.at(VECTORS * step))
            for v, slot in enumerate(group):
                at = b.add(line, self.at(v * step))
                s = b.load(slot, typ=self.vector)
                self.store(s, sums, at)
                was, aim = self.load(own, at), self.load(target, at)
                z = b.fmul(s, was)
                off = self.call("fabs", b.fsub(z, aim))
                errors[v] = b.fadd(errors[v], off)
                t = b.fmul(aim, self._reciprocal(self.pick(">", z, SMALLEST[self.bits])))
                kept = self.pick("<", self.pick(">", t, NARROW), WIDE)
                push = self.fma(shares[v], b.fsub(kept, self.full(1.0)), self.full(1.0))
                self.store(b.fmul(b.fmul(was, t), push), own, at)
        for v in range(VECTORS):
            self.store(errors[v], error, self.at(v * step))

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

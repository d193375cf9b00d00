"""LLVM code on vectors of floats, for what Numba's own loops do not make fast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils as untyped

REGISTER_BITS = 512
SIZE = ir.IntType(64)
cgutils: Any = untyped
SMALLEST = {32: 1e-37, 64: 1e-300}
LARGEST = {32: 1e38, 64: 1e300}
ESTIMATES = bool(llvm.get_host_cpu_features().get("avx512f", False))
# Cephes, logf: log(1 + t) = t − t²/2 + t³ P(t) for √½ ≤ 1 + t < √2.
LOGARITHM = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
LOG_TWO = (0.693359375, -2.12194440e-4)
ROOT_HALF_BITS, MANTISSA_BITS = 0x3F3504F3, 23


def data_of(
    context: Any, builder: Any, sig: Any, args: Sequence[Any], which: Sequence[int]
) -> list[Any]:
    """Return where the numbers of some of an intrinsic's arrays lie."""
    return [context.make_array(sig.args[k])(context, builder, args[k]).data for k in which]


@dataclass(frozen=True)
class Vectors:
    """Writes code with ``builder``; vectors of 512 bits hold floats of ``bits``.

    Every processor has them: in one register each, or in several of its own.
    """

    builder: Any
    bits: int

    @property
    def scalar(self) -> Any:
        """The type of one number."""
        return ir.FloatType() if self.bits == 32 else ir.DoubleType()

    @property
    def width(self) -> int:
        """How many numbers a vector holds."""
        return REGISTER_BITS // self.bits

    @property
    def vector(self) -> Any:
        """The type of a vector."""
        return ir.VectorType(self.scalar, self.width)

    def pick(self, relation: str, value: Any, bound: float) -> Any:
        """Return the larger (">") or smaller ("<") of a vector and a bound, lane by lane."""
        b, limit = self.builder, self.full(bound)
        return b.select(b.fcmp_ordered(relation, value, limit), value, limit)

    def splat(self, value: Any) -> Any:
        """Return a vector with one number in every lane."""
        empty = ir.Constant(self.vector, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        one = self.builder.insert_element(empty, value, self.at(0))
        return self.builder.shuffle_vector(one, empty, everywhere)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a · b + c."""
        return self.call("fmuladd", a, b, c)

    def call(self, name: str, *args: Any) -> Any:
        """Return one of LLVM's functions of vectors, such as fabs."""
        kind = ir.FunctionType(self.vector, [self.vector] * len(args))
        function = self.function(kind, f"llvm.{name}.v{self.width}f{self.bits}")
        return self.builder.call(function, args)

    def function(self, kind: Any, name: str) -> Any:
        """Return a function of the module, declared if it is new."""
        return cgutils.get_or_insert_function(self.builder.module, kind, name)

    def load(self, base: Any, offset: Any) -> Any:
        """Return the vector at ``base[offset]``."""
        return self.builder.load(self.place(base, offset), align=self.bits // 8, typ=self.vector)

    def store(self, value: Any, base: Any, offset: Any) -> None:
        """Write a vector to ``base[offset]``."""
        pointer = self.builder.bitcast(self.place(base, offset), ir.PointerType(self.vector))
        self.builder.store(value, pointer, align=self.bits // 8)

    def place(self, base: Any, offset: Any) -> Any:
        """Return the address of ``base[offset]``."""
        return self.builder.gep(base, [offset], source_etype=self.scalar)

    def full(self, value: float) -> Any:
        """Return a constant vector."""
        return ir.Constant(self.vector, [value] * self.width)

    @staticmethod
    def at(value: int) -> Any:
        """Return a constant index."""
        return ir.Constant(SIZE, value)

    @property
    def smallest(self) -> float:
        """The least number whose reciprocal and root are safe."""
        return SMALLEST[self.bits]

    @contextmanager
    def across(self, width: Any) -> Iterator[Any]:
        """Loop over the first places of the vectors of a row."""
        step = self.at(self.width)
        with cgutils.for_range_slice(self.builder, self.at(0), width, step, SIZE) as (place, _):
            yield place

    def total(self, vector: Any) -> Any:
        """Return the sum of a vector."""
        kind = ir.FunctionType(self.scalar, [self.scalar, self.vector])
        reduce = self.function(kind, f"llvm.vector.reduce.fadd.v{self.width}f{self.bits}")
        none = ir.Constant(self.scalar, 0.0)
        return self.builder.call(reduce, [none, vector], fastmath=("reassoc",))

    def reciprocal(self, z: Any) -> Any:
        """1/z; from an estimate of 14 bits and one Newton step where the processor has one."""
        y = self.estimate(z)
        if self.bits == 64 or not ESTIMATES:
            return y
        again = self.fma(self.builder.fneg(z), y, self.full(2.0))
        return self.builder.fmul(y, again)

    def estimate(self, z: Any) -> Any:
        """1/z, to 14 bits at least."""
        if self.bits == 64 or not ESTIMATES:
            return self.builder.fdiv(self.full(1.0), z)
        return self._fourteen_bits("rcp14", z)

    def root(self, z: Any) -> Any:
        """√z, likewise."""
        if self.bits == 64 or not ESTIMATES:
            return self.call("sqrt", z)
        b, y = self.builder, self._fourteen_bits("rsqrt14", z)
        rough = b.fmul(z, y)
        off = self.fma(b.fneg(rough), y, self.full(1.0))
        return self.fma(b.fmul(rough, self.full(0.5)), off, rough)

    def log(self, z: Any) -> Any:
        """log z; not a number where z is not between the smallest and the largest float or so."""
        b = self.builder
        low = b.fcmp_ordered(">=", z, self.full(SMALLEST[self.bits]))
        high = b.fcmp_ordered("<=", z, self.full(LARGEST[self.bits]))
        found = self._log_single(z) if self.bits == 32 else self.call("log", z)
        return b.select(b.and_(low, high), found, self.full(float("nan")))

    def _log_single(self, z: Any) -> Any:
        b, kind = self.builder, ir.VectorType(ir.IntType(32), self.width)

        def whole(value: int) -> Any:
            return ir.Constant(kind, [value] * self.width)

        bits = b.bitcast(z, kind)
        power = b.ashr(b.sub(bits, whole(ROOT_HALF_BITS)), whole(MANTISSA_BITS))
        mantissa = b.sub(bits, b.shl(power, whole(MANTISSA_BITS)))
        t = b.fsub(b.bitcast(mantissa, self.vector), self.full(1.0))
        series = self.full(LOGARITHM[0])
        for factor in LOGARITHM[1:]:
            series = self.fma(series, t, self.full(factor))
        square, times = b.fmul(t, t), b.sitofp(power, self.vector)
        rest = self.fma(times, self.full(LOG_TWO[1]), b.fmul(b.fmul(series, t), square))
        rest = self.fma(square, self.full(-0.5), rest)
        return self.fma(times, self.full(LOG_TWO[0]), b.fadd(t, rest))

    def _fourteen_bits(self, name: str, z: Any) -> Any:
        mask = ir.IntType(16)
        kind = ir.FunctionType(self.vector, [self.vector, self.vector, mask])
        estimate = self.function(kind, f"llvm.x86.avx512.{name}.ps.512")
        return self.builder.call(estimate, [z, self.full(0.0), ir.Constant(mask, -1)])

"""LLVM code on vectors of floats, for what Numba's own loops do not make fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils as untyped

REGISTER_BITS = 512
SIZE = ir.IntType(64)
cgutils: Any = untyped


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

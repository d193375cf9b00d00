"""Products of a few rows with a kernel at the speed of the processor, in LLVM vectors.

Numba's own loops do not keep a tile of sums in registers, so the tile is written out.

Numba keeps machine code by the date of the file that calls it: touch compiled.py after a change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.extending import intrinsic

from fedkd.transport.vectors import SIZE, Vectors, cgutils, data_of

ABREAST = 8  # rows of one tile of sums


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
            data = data_of(context, builder, sig, args, (0, 1, 3, 5))
            code = _Products(builder, sig.args[0].dtype.bitwidth)
            code.generate(data, args[2], args[4], args[6], args[7], vectors)
            return context.get_dummy_value()

        return signature, generate

    return multiply


# Write the products of ``rows`` and ``kernel`` to ``sums`` for the eight rows that
# ``slots[first:first + 8]`` number, from the panel ``panel`` on. ``rows`` and ``sums`` are flat
# (slots, width); ``kernel`` holds panels (width/vector, labels, vector), flat.
multiply_three, multiply_two, multiply_one = _multiply(3), _multiply(2), _multiply(1)


class _Products(Vectors):
    """The code of a product of eight rows with the kernel, tile by tile."""

    def generate(
        self, arrays: Sequence[Any], first: Any, labels: Any, width: Any, panel: Any, vectors: int
    ) -> None:
        b, (rows, slots, kernel, sums) = self.builder, arrays
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

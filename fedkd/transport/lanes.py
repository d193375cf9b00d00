"""One tile of a matrix product, sixteen or thirty-two instances wide, for the compiled solver.

Numba's own loops do not keep a tile of accumulators in registers, so the tile is written in LLVM's
vector types, which every processor has: 512-bit registers where there are some, else several of
its own.
"""

from __future__ import annotations

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

REGISTER_BYTES = 64
VECTORS = 2
SMALLEST = {32: 1e-37, 64: 1e-300}
NARROW, WIDE = 0.25, 4.0  # bounds of the ratio that over-relaxation extrapolates

_HAS_RECIPROCAL = bool(llvm.get_host_cpu_features().get("avx512f", False))


def lanes(bits: int) -> int:
    """Return how many instances of float32 or float64 one tile holds."""
    return VECTORS * REGISTER_BYTES * 8 // bits


@intrinsic  # type: ignore[untyped-decorator]
def rescale_tile(typing, packed, x, own, target, sums, share, error, row, labels, height):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, PLR0915
    """Do one half-step of Sinkhorn for ``height`` labels from ``row`` on and every lane.

    s = G x; with the ratio t = target/(s·own) and the over-relaxation w = 1 + share, own becomes
    own · t · (1 + share (t' − 1)), t' being t kept between 1/4 and 4: to first order t^w, which is
    all the fixed point and the rate near it depend on. ``error`` (lanes,) gathers |s·own − target|.
    ``x``, ``own``, ``target``, ``sums`` are flat (labels, lanes), ``packed`` is flat
    (labels / height, labels, height).
    """
    if not isinstance(height, types.IntegerLiteral):
        return None
    tall = height.literal_value
    bits = packed.dtype.bitwidth
    width = REGISTER_BYTES * 8 // bits
    signature = types.void(
        packed, x, own, target, sums, share, error, types.intp, types.intp, height
    )

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
        vector = ir.VectorType(scalar, width)
        size = ir.IntType(64)
        data = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(sig.args[:7], args[:7], strict=True)
        ]
        grid, x_, own_, target_, sums_, share_, error_ = data
        first, count = args[7], args[8]

        def constant(value):  # type: ignore[no-untyped-def]
            return ir.Constant(vector, [value] * width)

        def index(value):  # type: ignore[no-untyped-def]
            return ir.Constant(size, value)

        def place(base, offset):  # type: ignore[no-untyped-def]
            return builder.gep(base, [offset], source_etype=scalar)

        def load(base, offset):  # type: ignore[no-untyped-def]
            pointer = builder.bitcast(place(base, offset), ir.PointerType(vector))
            return builder.load(pointer, align=bits // 8, typ=vector)

        def store(value, base, offset):  # type: ignore[no-untyped-def]
            pointer = builder.bitcast(place(base, offset), ir.PointerType(vector))
            builder.store(value, pointer, align=bits // 8)

        module = builder.module
        name = f"v{width}f{bits}"
        fused = cgutils.get_or_insert_function(
            module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.{name}"
        )
        absolute = cgutils.get_or_insert_function(
            module, ir.FunctionType(vector, [vector]), f"llvm.fabs.{name}"
        )

        def fma(a, b, c):  # type: ignore[no-untyped-def]
            return builder.call(fused, [a, b, c])

        def larger(a, b):  # type: ignore[no-untyped-def]
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        def smaller(a, b):  # type: ignore[no-untyped-def]
            return builder.select(builder.fcmp_ordered("<", a, b), a, b)

        def reciprocal(z):  # type: ignore[no-untyped-def]
            if bits == 64 or not _HAS_RECIPROCAL:
                return builder.fdiv(constant(1.0), z)
            mask = ir.IntType(16)
            estimate = cgutils.get_or_insert_function(
                module, ir.FunctionType(vector, [vector, vector, mask]),
                "llvm.x86.avx512.rcp14.ps.512",
            )  # fmt: skip
            y = builder.call(estimate, [z, constant(0.0), ir.Constant(mask, -1)])
            return builder.fmul(y, fma(builder.fneg(z), y, constant(2.0)))

        def splat(value):  # type: ignore[no-untyped-def]
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, index(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        totals = [
            [cgutils.alloca_once(builder, vector) for _ in range(VECTORS)] for _ in range(tall)
        ]
        for slot in sum(totals, []):
            builder.store(constant(0.0), slot)
        here = builder.mul(first, count)
        with cgutils.for_range(builder, count, intp=size) as loop:
            across = builder.mul(loop.index, index(VECTORS * width))
            columns = [load(x_, builder.add(across, index(v * width))) for v in range(VECTORS)]
            begin = builder.add(here, builder.mul(loop.index, index(tall)))
            for r in range(tall):
                entry = builder.load(place(grid, builder.add(begin, index(r))), typ=scalar)
                entry = splat(entry)
                for slot, column in zip(totals[r], columns, strict=True):
                    builder.store(fma(entry, column, builder.load(slot, typ=vector)), slot)
        shares = [load(share_, index(v * width)) for v in range(VECTORS)]
        errors = [load(error_, index(v * width)) for v in range(VECTORS)]
        for r in range(tall):
            line = builder.mul(builder.add(first, index(r)), index(VECTORS * width))
            for v in range(VECTORS):
                at = builder.add(line, index(v * width))
                s = builder.load(totals[r][v], typ=vector)
                store(s, sums_, at)
                was, aim = load(own_, at), load(target_, at)
                z = builder.fmul(s, was)
                off = builder.call(absolute, [builder.fsub(z, aim)])
                errors[v] = builder.fadd(errors[v], off)
                t = builder.fmul(aim, reciprocal(larger(z, constant(SMALLEST[bits]))))
                kept = smaller(larger(t, constant(NARROW)), constant(WIDE))
                push = fma(shares[v], builder.fsub(kept, constant(1.0)), constant(1.0))
                store(builder.fmul(builder.fmul(was, t), push), own_, at)
        for v in range(VECTORS):
            store(errors[v], error_, index(v * width))
        return context.get_dummy_value()

    return signature, codegen

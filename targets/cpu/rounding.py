"""Rounds float32 once for each stored value, by one instruction where the processor has it.

TVM rounds to bfloat16 by six instructions on integers. AVX512-BF16 has vcvtneps2bf16, into which LLVM turns
its own conversion of any number of elements: so the conversion stands in a function of LLVM's language, which
LLVM inlines before it makes vectors of loops.
"""

from __future__ import annotations

import tvm_ffi
from tvm import ir, tirx
from tvm.tirx.op import register_intrin_lowering

from ...passes.compute.pairs import register_operator
from .dot_products import INSTRUCTION
from .llvm_code import with_llvm_code
from .machine import Machine

ROUND = "relaxc.bf16_round"
"""(x): the bits, uint16, of the float32 x rounded to bfloat16, to nearest, ties to even."""

_NARROW = ("bfloat16", "float16")
_WRAPPER = "relaxc_bf16_round"
_LANES = (1, 2, 4, 8, 16, 32, 64)


def _definition(lanes: int) -> str:
    wide, narrow, bits = (
        kind if lanes == 1 else f"<{lanes} x {kind}>" for kind in ("float", "bfloat", "i16")
    )
    return f"""
define {bits} @{_WRAPPER}_{lanes}({wide} %x) #1 {{
  %r = fptrunc {wide} %x to {narrow}
  %b = bitcast {narrow} %r to {bits}
  ret {bits} %b
}}
"""


_LLVM = (
    "".join(map(_definition, _LANES))
    + "\nattributes #1 = { alwaysinline nounwind willreturn memory(none) }\n"
)

_ROUND_OP = register_operator(ROUND, "The bits of a float32 number rounded to bfloat16.")


def _call_wrapper(call: ir.Call) -> tirx.Expr:
    (x,) = call.args
    lanes = int(x.ty.dtype.lanes)
    if lanes not in _LANES:
        return _by_integers(x, lanes)
    dtype = "uint16" if lanes == 1 else f"uint16x{lanes}"
    return tirx.call_pure_extern(dtype, f"{_WRAPPER}_{lanes}", x)


def _by_integers(x: tirx.Expr, lanes: int) -> tirx.Expr:
    """Adds what makes the upper half the nearest, and the even one of two that are as near."""

    def number(value: int) -> tirx.Expr:
        scalar = tirx.const(value, "uint32")
        return tirx.Broadcast(scalar, lanes)

    bits = tirx.reinterpret(f"uint32x{lanes}", x)
    odd = tirx.bitwise_and(tirx.shift_right(bits, number(16)), number(1))
    return tirx.Cast(f"uint16x{lanes}", tirx.shift_right(bits + odd + number(0x7FFF), number(16)))


register_intrin_lowering(ROUND, "llvm", f=_call_wrapper, level=15)


def round_once(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """``function``, scheduled, without the roundings of values that never leave it.

    Operators that became one kernel hand narrow values to each other, and make each wide again at once.
    """

    def unrounded(cast: tirx.Cast) -> tirx.Expr:
        inner = cast.value
        if str(cast.ty.dtype) == "float32" and isinstance(inner, tirx.Cast) and _narrows(inner):
            return inner.value
        return cast

    return tvm_ffi.structural_map(function, (tirx.Cast, unrounded))


def _narrows(cast: tirx.Cast) -> bool:
    return str(cast.ty.dtype) in _NARROW and str(cast.value.ty.dtype) == "float32"


def round_by_instruction(function: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc:
    """``function``, scheduled, with the processor's rounding in the place of casts to bfloat16."""
    if INSTRUCTION not in machine.features:
        return function
    rounded = []

    def convert(cast: tirx.Cast) -> tirx.Expr:
        if str(cast.ty.dtype) != "bfloat16" or str(cast.value.ty.dtype) != "float32":
            return cast
        rounded.append(cast)
        return tirx.reinterpret("bfloat16", tirx.call_intrin("uint16", _ROUND_OP, cast.value))

    converted = tvm_ffi.structural_map(function, (tirx.Cast, convert))
    return with_llvm_code(converted, _LLVM) if rounded else function

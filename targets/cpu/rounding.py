"""Rounds float32 once for each stored value, by one instruction where the processor has it.

TVM rounds to bfloat16 by six instructions on integers. AVX512-BF16 has vcvtneps2bf16, into which LLVM turns
its own conversion of any number of elements: so the conversion stands in a function of LLVM's language, which
LLVM inlines before it makes vectors of loops.
"""

from __future__ import annotations

import tvm_ffi
from tvm import ir, tirx
from tvm.tirx.op import register_intrin_lowering

from ...passes.compute.pairs import ROUND, rounded_bits
from ...passes.operator_name import operator_name
from .dot_products import INSTRUCTION
from .llvm_code import with_llvm_code
from .machine import Machine

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


def _call_wrapper(call: ir.Call) -> tirx.Expr:
    (x,) = call.args
    lanes = int(x.ty.dtype.lanes)
    if lanes not in _LANES:
        return _by_integers(x)
    dtype = "uint16" if lanes == 1 else f"uint16x{lanes}"
    return tirx.call_pure_extern(dtype, f"{_WRAPPER}_{lanes}", x)


def _by_integers(x: tirx.Expr) -> tirx.Expr:
    """Adds what makes the upper half the nearest, and the even one of two that are as near."""
    lanes = int(x.ty.dtype.lanes)

    def typed(name: str) -> str:
        return name if lanes == 1 else f"{name}x{lanes}"

    def number(value: int) -> tirx.Expr:
        scalar = tirx.const(value, "uint32")
        return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)

    bits = tirx.reinterpret(typed("uint32"), x)
    odd = tirx.bitwise_and(tirx.shift_right(bits, number(16)), number(1))
    return tirx.Cast(typed("uint16"), tirx.shift_right(bits + odd + number(0x7FFF), number(16)))


register_intrin_lowering(ROUND, "llvm", f=_call_wrapper, level=15)


def round_by_instruction(function: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc:
    """``function``, scheduled, with the processor's rounding to bfloat16 where there is any."""
    if INSTRUCTION not in machine.features:
        return tvm_ffi.structural_map(function, (ir.Call, _without_instruction))
    rounded = []

    def convert(cast: tirx.Cast) -> tirx.Expr:
        if not _narrows(cast) or str(cast.ty.dtype) != "bfloat16":
            return cast
        return tirx.reinterpret("bfloat16", rounded_bits(cast.value))

    def note(call: ir.Call) -> None:
        if operator_name(call) == ROUND:
            rounded.append(call)

    converted = tvm_ffi.structural_map(function, (tirx.Cast, convert))
    tvm_ffi.structural_walk(converted.body, (ir.Call, note))
    return with_llvm_code(converted, _LLVM) if rounded else function


def _without_instruction(call: ir.Call) -> tirx.Expr:
    return _by_integers(*call.args) if operator_name(call) == ROUND else call


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
    return str(cast.ty.dtype) in ("bfloat16", "float16") and str(cast.value.ty.dtype) == "float32"

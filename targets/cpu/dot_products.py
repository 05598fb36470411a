"""Puts the processor's instructions, or plain arithmetic, in the place of dot products of bfloat16 pairs.

AVX512-BF16 multiplies and adds 32 bfloat16 numbers in one instruction, vdpbf16ps, which LLVM offers on types
that TVM's code generator does not know. So the instruction is wrapped in a function of LLVM's own language,
which LLVM inlines.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import tvm_ffi
from tvm import ir, tirx
from tvm.ir.expr import TensorLoad
from tvm.tirx.op import register_intrin_lowering

from ...passes.compute.half_sums import MOST_TERMS
from ...passes.compute.pairs import PAIR, PRODUCT, TILE_DEPTH, join_pair, pair_numbers, register_operator
from ...passes.operator_name import operator_name
from .llvm_code import with_llvm_code
from .machine import Machine

INSTRUCTION = "avx512bf16"
TILES = "amx-bf16"
HALF_ARITHMETIC = "avx512fp16"

DOT = "relaxc.bf16_dot"
"""(sum, a, b): the float32 sum + a.first * b.first + a.second * b.second of pairs a, b in one instruction."""


def _lanes(first: int, count: int) -> str:
    """A shuffle's mask."""
    return "<" + ", ".join(f"i32 {lane}" for lane in range(first, first + count)) + ">"


_LOW, _HIGH, _ALL = _lanes(0, 16), _lanes(16, 16), _lanes(0, 32)
_WRAPPER = "relaxc_bf16_dot"
_PAIRS = "<32 x bfloat>"
_LLVM = f"""
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, {_PAIRS}, {_PAIRS})

define <16 x float> @{_WRAPPER}_16(<16 x float> %sum, <16 x i32> %a, <16 x i32> %b) #0 {{
  %x = bitcast <16 x i32> %a to {_PAIRS}
  %y = bitcast <16 x i32> %b to {_PAIRS}
  %r = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %sum, {_PAIRS} %x, {_PAIRS} %y)
  ret <16 x float> %r
}}

define <32 x float> @{_WRAPPER}_32(<32 x float> %sum, <32 x i32> %a, <32 x i32> %b) #0 {{
  %s0 = shufflevector <32 x float> %sum, <32 x float> poison, <16 x i32> {_LOW}
  %s1 = shufflevector <32 x float> %sum, <32 x float> poison, <16 x i32> {_HIGH}
  %a0 = shufflevector <32 x i32> %a, <32 x i32> poison, <16 x i32> {_LOW}
  %a1 = shufflevector <32 x i32> %a, <32 x i32> poison, <16 x i32> {_HIGH}
  %b0 = shufflevector <32 x i32> %b, <32 x i32> poison, <16 x i32> {_LOW}
  %b1 = shufflevector <32 x i32> %b, <32 x i32> poison, <16 x i32> {_HIGH}
  %r0 = call <16 x float> @{_WRAPPER}_16(<16 x float> %s0, <16 x i32> %a0, <16 x i32> %b0)
  %r1 = call <16 x float> @{_WRAPPER}_16(<16 x float> %s1, <16 x i32> %a1, <16 x i32> %b1)
  %r = shufflevector <16 x float> %r0, <16 x float> %r1, <32 x i32> {_ALL}
  ret <32 x float> %r
}}

attributes #0 = {{ alwaysinline nounwind willreturn memory(none) }}
"""

_DOT_OP = register_operator(DOT, "A float32 sum plus the dot product of two pairs.")


def _call_wrapper(call: ir.Call) -> tirx.Expr:
    lanes = 16 * (int(call.args[0].ty.dtype.lanes) // 16)
    return tirx.call_pure_extern(f"float32x{lanes}", f"{_WRAPPER}_{lanes}", *call.args)


register_intrin_lowering(DOT, "llvm", f=_call_wrapper, level=15)


@dataclass(frozen=True)
class Packing:
    """How products lie in memory.

    Attributes:
        block: channels or columns in a block.
        depth: elements that one step of a dot product of bfloat16 takes; products that are summed in float16.
    """

    block: int
    depth: int


def packing_for(dtype: str, machine: Machine) -> Packing:
    """The packing for values of ``dtype`` between the kernels of ``machine``."""
    if dtype == "bfloat16" and TILES in machine.features:
        return Packing(TILE_DEPTH, TILE_DEPTH)
    if dtype == "float16":
        half = HALF_ARITHMETIC in machine.features
        return Packing(machine.lanes("float16"), MOST_TERMS) if half else Packing(machine.lanes("float32"), 1)
    return Packing(machine.lanes("float32"), 2)


def lower_dot_products(function: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc:
    """``function``, scheduled, with what the processor offers for dot products of pairs."""
    if not _has_products(function):
        return function
    native = INSTRUCTION in machine.features
    accumulate = functools.partial(_accumulate, native=native)
    lowered = tvm_ffi.structural_map(function, (tirx.Add, accumulate))
    return with_llvm_code(lowered, _LLVM) if native else lowered


def _has_products(function: tirx.PrimFunc) -> bool:
    found = []

    def visit(call: ir.Call) -> None:
        if operator_name(call) == PRODUCT:
            found.append(call)

    tvm_ffi.structural_walk(function.body, (ir.Call, visit))
    return bool(found)


def _accumulate(add: tirx.Add, native: bool) -> tirx.Expr:
    if operator_name(add.b) != PRODUCT:
        return add
    if native:
        return tirx.call_intrin("float32", _DOT_OP, add.a, *add.b.args)
    (first_a, second_a), (first_b, second_b) = map(pair_numbers, add.b.args)
    return add.a + first_a * first_b + second_a * second_b


def _load_pair(call: ir.Call) -> tirx.Expr:
    """One load of both elements; done last, since TVM vectorises no expression that is a vector already.

    LLVM would make one load of two, too, but then forgets which buffer it is from, and takes each store to an
    accumulator for one that the load might see.
    """
    first, second = map(_loaded, call.args)
    if first is None or second is None:
        return join_pair(*call.args)
    (place,) = first.indices
    both = tirx.BufferLoad(first.source, [tirx.Ramp(place, tirx.const(1, place.ty.dtype), 2)])
    return tirx.reinterpret("int32", both)


def _loaded(value: tirx.Expr) -> TensorLoad | None:
    """The load that gives the bits ``value``, if it is one."""
    while operator_name(value) == "tirx.reinterpret":
        value = value.args[0]
    return value if isinstance(value, TensorLoad) else None


register_intrin_lowering(PAIR, "llvm", f=_load_pair, level=15)

"""Dot products of neighbouring bfloat16 elements, two at a time, summed in float32.

A pair is a 32-bit integer with the first element in its low half: what vdpbf16ps of AVX512-BF16 and tdpbf16ps
of AMX read (Intel Architecture Instruction Set Extensions Programming Reference). Definitions write pairs and
their products as the two operators below; a target puts its instructions in their place once it has
scheduled the kernel.
"""

from __future__ import annotations

import numpy as np
from tvm import ir, te, tirx
from tvm.ir import _ffi_api

PAIR = "relaxc.bf16_pair"
"""(first, second), the bits of bfloat16 numbers that are adjacent in memory: int32."""
PRODUCT = "relaxc.bf16_pair_product"
"""(a, b), both pairs: the float32 a.first * b.first + a.second * b.second."""
ROUND = "relaxc.bf16_round"
"""(x): the bits, uint16, of the float32 x rounded to bfloat16, to nearest, ties to even."""

CONV2D_TILES, MATMUL_TILES = "conv2d_tiles", "matmul_tiles"
"""Workloads whose reduction comes in steps of a tile's depth, not of a pair."""
TILE_ROWS, TILE_DEPTH = 16, 32
"""Rows of a tile of AMX, and the elements that one of them holds."""

_PURE = 1


def register_operator(name: str, description: str) -> ir.Op:
    """A pure operator on scalars that may become one on vectors."""
    _ffi_api.RegisterOp(name, description)
    short = name.rpartition(".")[2]
    for key, value in (("TVectorizable", True), ("TCallEffectKind", _PURE), ("TScriptPrinterName", short)):
        ir.register_op_attr(name, key, value)
    return ir.Op.get(name)


_ROUND_OP = register_operator(ROUND, "The bits of a float32 number rounded to bfloat16.")
_PAIR_OP = register_operator(PAIR, "Two neighbouring bfloat16 numbers as one int32.")
_PRODUCT_OP = register_operator(PRODUCT, "The dot product of two pairs, in float32.")


def bits(value: tirx.Expr) -> tirx.Expr:
    """The 16 bits of a bfloat16 value.

    Where a kernel keeps such values in a buffer of its own, it must keep bits: TVM widens them otherwise.
    """
    return tirx.reinterpret("uint16", value)


def rounded_bits(value: tirx.Expr) -> tirx.Expr:
    """The 16 bits of the bfloat16 that is nearest to a float32 value."""
    return tirx.call_intrin("uint16", _ROUND_OP, value)


def pair_numbers(pair: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
    """Both numbers of a pair in float32: bfloat16 is its upper half."""
    first = tirx.shift_left(pair, tirx.const(16, "int32"))
    second = tirx.bitwise_and(pair, tirx.const(-65536, "int32"))
    return tirx.reinterpret("float32", first), tirx.reinterpret("float32", second)


def as_number(value: tirx.Expr) -> tirx.Expr:
    """A value, or what it is if it is given as ``bits``; that in float32."""
    if str(value.ty.dtype) != "uint16":
        return value
    wide = tirx.shift_left(tirx.Cast("uint32", value), tirx.const(16, "uint32"))
    return tirx.reinterpret("float32", wide)


def load_pair(x: te.Tensor, index: list[tirx.Expr]) -> tirx.Expr:
    """The pair of x, bfloat16 or the bits of such, at ``index`` and where its last index moves on by one."""
    *outer, last = index
    both = x(*index), x(*outer, last + 1)
    return adjacent_pair(*(map(bits, both) if str(x.dtype) == "bfloat16" else both))


def adjacent_pair(first: tirx.Expr, second: tirx.Expr) -> tirx.Expr:
    """The pair of two values adjacent in memory, given as their bits; the lanes of a vector share it."""
    return tirx.call_intrin("int32", _PAIR_OP, first, second)


def pair_product(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """The dot product of two pairs."""
    return tirx.call_intrin("float32", _PRODUCT_OP, a, b)


def join_pair(first: tirx.Expr, second: tirx.Expr) -> tirx.Expr:
    """The pair of two values from anywhere, given as their bits."""
    low, high = (tirx.Cast("uint32", value) for value in (first, second))
    joined = tirx.bitwise_or(low, tirx.shift_left(high, tirx.const(16, "uint32")))
    return tirx.reinterpret("int32", joined)


def is_bfloat16(array: np.ndarray) -> bool:
    """Whether ``array`` holds what pairs are made of."""
    return array.dtype.name == "bfloat16"


def interleave_pairs(array: np.ndarray, axis: int, depth: int = 2) -> np.ndarray:
    """``array`` (bfloat16) with the elements of ``axis`` joined two by two: int32.

    Its extent becomes a multiple of ``depth``: the last step holds the last ``depth`` elements, and zeros for
    those that the step before holds already. ``pair_start`` says where their partners are.
    """
    extent = array.shape[axis]
    overlap = -extent % depth
    if overlap:
        array = np.insert(array, [extent - depth + overlap] * overlap, np.zeros((), array.dtype), axis)
    moved = np.moveaxis(array, axis, -1)
    joined = np.ascontiguousarray(moved).view(np.int32)
    return np.ascontiguousarray(np.moveaxis(joined, -1, axis))


def pair_start(pair: tirx.Expr, extent: int, depth: int = 2) -> tirx.Expr:
    """Where ``pair`` of an axis starts; the last step of ``depth`` elements may overlap the one before it."""
    if extent % depth == 0:
        return 2 * pair
    pairs = depth // 2
    return tirx.min(depth * tirx.floordiv(pair, pairs), extent - depth) + 2 * tirx.floormod(pair, pairs)


def is_new(pair: tirx.Expr, extent: int, depth: int = 2) -> tuple[tirx.Expr, tirx.Expr] | None:
    """Whether the step before lacks ``pair``'s first element, and its second; None if steps never overlap."""
    if extent % depth == 0:
        return None
    begin = depth * tirx.floordiv(pair, depth // 2)
    start = pair_start(pair, extent, depth)
    return start >= begin, start + 1 >= begin

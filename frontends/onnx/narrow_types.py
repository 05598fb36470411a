"""Element types of at most eight bits: how they are stored, and conversion to and from them.

LLVM has no 8-bit floats and TVM packs 4-bit integers otherwise than ONNX, so such elements live in bytes: the
code of a float, the value of an integer. Conversions are arithmetic of our own. Formats: the specification
of Cast, and "FP8 Formats for Deep Learning" (https://arxiv.org/abs/2209.05433).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr

from .tabulate import tabulate
from .values import Array, NarrowTensor, is_narrow, numpy_dtype, storage_dtype

if TYPE_CHECKING:
    from .graph_builder import GraphBuilder


@dataclass(frozen=True)
class _Format:
    """A floating-point format with a sign bit.

    Attributes:
        mantissa: stored bits of the mantissa.
        lowest: exponent of the smallest normal number.
        largest: the code of the largest finite number.
        overflow: the code of what is larger, where it does not saturate.
        nan: the code of NaN.
        negative_zero: whether -0 exists.
    """

    mantissa: int
    lowest: int
    largest: int
    overflow: int
    nan: int
    negative_zero: bool = True


_FORMATS = {
    "float8_e4m3fn": _Format(3, -6, 0x7E, 0x7F, 0x7F),
    "float8_e5m2": _Format(2, -14, 0x7B, 0x7C, 0x7E),
    "float8_e4m3fnuz": _Format(3, -7, 0x7F, 0x80, 0x80, negative_zero=False),
    "float8_e5m2fnuz": _Format(2, -15, 0x7F, 0x80, 0x80, negative_zero=False),
    "float4_e2m1fn": _Format(1, 0, 0x7, 0x7, 0x8),
}
_SIGN = {"float4_e2m1fn": 0x8}
_INTEGER_BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}


def is_narrow_float(dtype: str) -> bool:
    """Whether an element type is a float of at most eight bits."""
    return dtype in _FORMATS or dtype == "float8_e8m0fnu"


def stored(array: Array) -> Array:
    """A constant of a narrow type as the bytes that hold it."""
    name = str(array.dtype)
    if name in _INTEGER_BITS:
        return array.astype(storage_dtype(name))
    return np.ascontiguousarray(array).view(np.uint8).reshape(array.shape)


def ordinary(array: Array) -> Array:
    """A constant of a narrow type in one that computes: float32, or a byte-wide integer."""
    name = str(array.dtype)
    if not is_narrow(name):
        return array
    return array.astype(storage_dtype(name) if name in _INTEGER_BITS else np.float32)


def decoded(builder: GraphBuilder, value: NarrowTensor) -> Expr:
    """The values: float32, or a byte-wide integer."""
    if value.dtype in _INTEGER_BITS:
        return value.storage
    codes = np.arange(256, dtype=np.uint8)
    if value.dtype == "float4_e2m1fn":
        codes &= 0xF
    table = builder.constant(codes.view(numpy_dtype(value.dtype)).astype(np.float32))

    def compute(code: te.Tensor, values: te.Tensor) -> te.Tensor:
        return tabulate(code.shape, lambda *i: values(code(*i).astype("int64")), name="decode")

    return builder.te(compute, value.storage, table, name="decode")


def encoded(
    builder: GraphBuilder, tensor: Expr, dtype: str, saturate: bool = True, round_mode: str = "nearest"
) -> NarrowTensor:
    """A tensor of an ordinary type in a narrow one.

    Integers keep their low bits; floats round half to even. ``round_mode`` matters for float8e8m0 only.
    """
    if dtype in _INTEGER_BITS:
        return NarrowTensor(_low_bits(builder, tensor, dtype), dtype)
    real = builder.cast(tensor, "float32")

    def element(x: Any) -> Expr:
        if dtype == "float8_e8m0fnu":
            return _power_of_two(x, saturate, round_mode)
        return _code(x, _FORMATS[dtype], _SIGN.get(dtype, 0x80), saturate)

    def compute(x: te.Tensor) -> te.Tensor:
        return tabulate(x.shape, lambda *i: element(x(*i)).astype("uint8"), name="encode")

    return NarrowTensor(builder.te(compute, real, name="encode"), dtype)


def _low_bits(builder: GraphBuilder, tensor: Expr, dtype: str) -> Expr:
    bits, signed = _INTEGER_BITS[dtype], dtype.startswith("int")
    whole = builder.cast(tensor, "int64")

    def element(x: Any) -> Expr:
        low = x & _int((1 << bits) - 1)
        negative = low >= _int(1 << (bits - 1))
        value = tirx.Select(negative, low - _int(1 << bits), low) if signed else low
        return value.astype(storage_dtype(dtype))

    def compute(x: te.Tensor) -> te.Tensor:
        return tabulate(x.shape, lambda *i: element(x(*i)), name="low_bits")

    return builder.te(compute, whole, name="low_bits")


def _int(value: int) -> Expr:
    return tirx.IntImm("int64", value)


def _bits(x: Any) -> Expr:
    """The bits of a float32, widened: TVM makes 32-bit signed arithmetic in kernels 64 bits wide anyway."""
    return tirx.reinterpret("uint32", x).astype("int64")


def _float_of(bits: Any) -> Expr:
    return tirx.reinterpret("float32", bits.astype("uint32"))


def _code(x: Any, form: _Format, sign: int, saturate: bool) -> Expr:
    """The code of a float32. The codes of positive numbers are in their order, so rounding may carry."""
    bits = _bits(x)
    magnitude = _float_of(bits & _int(0x7FFFFFFF))
    exponent = tirx.max(tirx.shift_right(bits, _int(23)) & _int(255), _int(form.lowest + 127)) - _int(127)
    # Bounded, so that the scale below is a normal number; larger exponents overflow anyway.
    bounded = tirx.min(exponent, _int(64))
    scale = _float_of(tirx.shift_left(_int(127 + form.mantissa) - bounded, _int(23)))
    steps = tirx.nearbyint(tirx.min(magnitude, tirx.const(2.0**64, "float32")) * scale).astype("int64")
    code = tirx.shift_left(bounded - _int(form.lowest), _int(form.mantissa)) + steps
    large = code > _int(form.largest)
    code = tirx.Select(large, _int(form.largest if saturate else form.overflow), code)
    negative = bits >= _int(1 << 31)
    if not form.negative_zero:
        # There is one zero; and the overflow's code, NaN, has no sign.
        negative = tirx.all(negative, code != _int(0), code != _int(form.nan))
    signed = tirx.Select(negative, code | _int(sign), code)
    return tirx.Select(tirx.isnan(x), _int(form.nan), signed)


def _power_of_two(x: Any, saturate: bool, round_mode: str) -> Expr:
    """The biased exponent of a float32, rounded up, down or to the nearest power of two."""
    bits = _bits(x) & _int(0x7FFFFFFF)
    exponent, rest = tirx.shift_right(bits, _int(23)), bits & _int(0x7FFFFF)
    # Half of the way to the next power, a tie, goes up; zero and subnormal numbers become the smallest.
    carry = {"up": rest > _int(0), "down": tirx.const(False, "bool"), "nearest": rest >= _int(0x400000)}
    rounded = exponent + tirx.Select(carry[round_mode], _int(1), _int(0))
    rounded = tirx.Select(bits == _int(0), _int(0), rounded)
    limit = _int(0xFE if saturate else 0xFF)
    code = tirx.min(rounded, limit)
    return tirx.Select(tirx.isnan(x), _int(0xFF), code)


__all__ = ["decoded", "encoded", "is_narrow_float", "stored"]

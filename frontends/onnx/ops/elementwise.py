"""Operators that compute each element of the result from the elements at the same place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ..narrow_types import encoded
from ..node import Node
from ..precision import is_float, widened
from ..registry import converts
from ..tabulate import tabulate
from ..values import Value, dtype_name, is_narrow

_UNARY: dict[str, Callable[[Expr], Expr]] = {
    "Acos": relax.op.acos,
    "Acosh": relax.op.acosh,
    "Asin": relax.op.asin,
    "Asinh": relax.op.asinh,
    "Atan": relax.op.atan,
    "Atanh": relax.op.atanh,
    "Ceil": relax.op.ceil,
    "Cos": relax.op.cos,
    "Cosh": relax.op.cosh,
    "Erf": relax.op.erf,
    "Exp": relax.op.exp,
    "Floor": relax.op.floor,
    "Log": relax.op.log,
    "Sigmoid": relax.op.sigmoid,
    "Sin": relax.op.sin,
    "Sinh": relax.op.sinh,
    "Sqrt": relax.op.sqrt,
    "Tan": relax.op.tan,
    "Tanh": relax.op.tanh,
}


@converts(*_UNARY)
def unary(node: Node) -> Expr:
    return widened(node.builder, _UNARY[node.op_type], node.tensor(0))


@converts("Abs")
def absolute(node: Node) -> Expr:
    return node.tensor(0) if node.dtype(0).startswith("uint") else relax.op.abs(node.tensor(0))


@converts("Neg")
def negate(node: Node) -> Expr:
    return relax.op.negative(node.tensor(0))


@converts("Reciprocal")
def reciprocal(node: Node) -> Expr:
    return relax.op.divide(node.builder.constant(1, node.dtype(0)), node.tensor(0))


@converts("Not")
def logical_not(node: Node) -> Expr:
    return relax.op.logical_not(node.tensor(0))


@converts("BitwiseNot")
def bitwise_not(node: Node) -> Expr:
    return relax.op.bitwise_not(node.tensor(0))


@converts("Identity")
def identity(node: Node) -> Any:
    return node.value(0)


@converts("Sign")
def sign(node: Node) -> Expr:
    dtype = node.dtype(0)
    zero, one, minus = (tirx.const(value, dtype) for value in (0, 1, -1 if dtype[0] != "u" else 0))

    def compute(x: Any) -> Expr:
        return tirx.Select(x > zero, one, tirx.Select(x < zero, minus, tirx.Select(x == zero, zero, x)))

    return map_elements(node, compute, node.tensor(0), name="sign")


@converts("Round")
def round_half_to_even(node: Node) -> Expr:
    return widened(
        node.builder,
        lambda x: map_elements(node, lambda e: tirx.nearbyint(e), x, name="round_half_to_even"),
        node.tensor(0),
    )


@converts("IsNaN")
def is_nan(node: Node) -> Expr:
    return map_elements(node, tirx.isnan, node.builder.cast(node.tensor(0), _wide(node)), name="is_nan")


@converts("IsInf")
def is_inf(node: Node) -> Expr:
    dtype = _wide(node)
    infinity = tirx.const(float("inf"), dtype)
    minus = tirx.const(-float("inf"), dtype)
    bounds = [infinity] if node.integer("detect_positive", 1) else []
    bounds += [minus] if node.integer("detect_negative", 1) else []

    def compute(x: Any) -> Expr:
        result = tirx.const(False, "bool")
        for bound in bounds:
            result = tirx.Or(result, x == bound)
        return result

    return map_elements(node, compute, node.builder.cast(node.tensor(0), dtype), name="is_inf")


def _wide(node: Node) -> str:
    return "float64" if node.dtype(0) == "float64" else "float32"


_BINARY: dict[str, Callable[[Expr, Expr], Expr]] = {
    "Add": relax.op.add,
    "Sub": relax.op.subtract,
    "Mul": relax.op.multiply,
    "And": relax.op.logical_and,
    "Or": relax.op.logical_or,
    "Xor": relax.op.logical_xor,
    "Equal": relax.op.equal,
    "Less": relax.op.less,
    "LessOrEqual": relax.op.less_equal,
    "Greater": relax.op.greater,
    "GreaterOrEqual": relax.op.greater_equal,
    "BitwiseAnd": relax.op.bitwise_and,
    "BitwiseOr": relax.op.bitwise_or,
    "BitwiseXor": relax.op.bitwise_xor,
}


@converts(*_BINARY)
def binary(node: Node) -> Expr:
    return _BINARY[node.op_type](*node.builder.broadcastable(node.tensor(0), node.tensor(1)))


@converts("Div")
def divide(node: Node) -> Expr:
    divisor = node.value(1)
    if is_float(node.dtype(0)) and isinstance(divisor, np.ndarray) and not divisor.any():
        # TVM refuses to divide by a number that it knows to be zero. To multiply by infinity gives the same.
        infinities = np.copysign(np.inf, divisor.astype(np.float64)).astype(divisor.dtype)
        return relax.op.multiply(
            *node.builder.broadcastable(node.tensor(0), node.builder.constant(infinities))
        )
    a, b = node.builder.broadcastable(node.tensor(0), node.tensor(1))
    if is_float(node.dtype(0)):
        return relax.op.divide(a, b)
    return map_elements(node, tirx.truncdiv, a, b, name="truncating_divide")


@converts("Mod")
def modulo(node: Node) -> Expr:
    a, b = node.builder.broadcastable(node.tensor(0), node.tensor(1))
    truncating = bool(node.integer("fmod", 0))
    if is_float(node.dtype(0)):
        remainder = _float_remainder if truncating else _float_modulo
        return widened(node.builder, lambda x, y: map_elements(node, remainder, x, y, name="float_mod"), a, b)
    remainder = tirx.truncmod if truncating else tirx.floormod
    return map_elements(node, remainder, a, b, name="truncating_mod" if truncating else "floor_mod")


def _float_remainder(a: Any, b: Any) -> Expr:
    """C's fmod: the sign of the dividend."""
    dtype = a.ty.dtype
    return tirx.call_pure_extern(dtype, "fmodf" if str(dtype) == "float32" else "fmod", a, b)


def _float_modulo(a: Any, b: Any) -> Expr:
    """Python's modulo: the sign of the divisor."""
    zero = tirx.const(0, a.ty.dtype)
    remainder = _float_remainder(a, b)
    signs_differ = tirx.any(tirx.all(remainder < zero, b > zero), tirx.all(remainder > zero, b < zero))
    return tirx.Select(signs_differ, remainder + b, remainder)


@converts("BitShift")
def bit_shift(node: Node) -> Expr:
    a, b = node.builder.broadcastable(node.tensor(0), node.tensor(1))
    bits = int(np.dtype(node.dtype(0)).itemsize * 8)
    left = node.text("direction") == "LEFT"

    def compute(x: Any, count: Any) -> Expr:
        amount, dtype = count.astype("int64"), x.ty.dtype
        # The machine's shifts take no amount beyond the width.
        near = tirx.Select(tirx.all(amount >= _i64(0), amount < _i64(bits)), amount, _i64(bits - 1)).astype(
            dtype
        )
        zero = tirx.const(0, dtype)
        if not left and node.dtype(0).startswith("int"):
            return (x >> near).astype(dtype)
        inside = tirx.all(amount >= _i64(0), amount < _i64(bits))
        return tirx.Select(inside, (x << near if left else x >> near).astype(dtype), zero)

    return map_elements(node, compute, a, b, name="bit_shift")


def _i64(value: int) -> Expr:
    return tirx.IntImm("int64", value)


@converts("Pow")
def power(node: Node) -> Expr:
    base, dtype = node.tensor(0), node.dtype(0)
    exponent = node.value(1)
    if isinstance(exponent, np.ndarray) and exponent.size == 1 and exponent.ndim <= node.rank(0):
        simple = _simple_power(base, float(exponent.reshape(())), dtype)
        if simple is not None:
            return simple
    wide = dtype if dtype == "float32" else "float64"
    a, b = node.builder.broadcastable(base, node.tensor(1))
    result = relax.op.power(node.builder.cast(a, wide), node.builder.cast(b, wide))
    return node.builder.cast(node.emit(result), dtype)


def _simple_power(base: Expr, exponent: float, dtype: str) -> Expr | None:
    if exponent == 1:
        return base
    if exponent == 2:
        return relax.op.multiply(base, base)
    if exponent == 0.5 and dtype in ("float32", "float64"):
        return relax.op.sqrt(base)
    return None


@converts("Max", "Min")
def extremum(node: Node) -> Expr:
    """Elementwise extremum of any number of inputs; NaN wins, as in IEEE 754-2019 maximum."""
    largest = node.op_type == "Max"
    floating = is_float(node.dtype(0))

    def choose(a: Any, b: Any) -> Expr:
        wins = a > b if largest else a < b
        if floating:
            wins = tirx.Or(wins, tirx.isnan(a))
        return tirx.Select(wins, a, b)

    total = node.tensor(0)
    for tensor in node.tensors()[1:]:
        a, b = node.builder.broadcastable(total, tensor)
        total = map_elements(node, choose, a, b, name=node.op_type.lower() + "imum_of_two")
    return total


@converts("Sum", "Mean")
def variadic_sum(node: Node) -> Expr:
    total = node.tensor(0)
    for tensor in node.tensors()[1:]:
        total = node.emit(relax.op.add(*node.builder.broadcastable(total, tensor)))
    if node.op_type == "Mean":
        total = relax.op.divide(total, node.builder.constant(len(node.inputs), node.dtype(0)))
    return total


@converts("Where")
def where(node: Node) -> Expr:
    condition, a, b = node.builder.broadcastable(*node.tensors())
    return relax.op.where(condition, a, b)


@converts("Clip", since=6)
def clip_by_attributes(node: Node) -> Expr:
    return clipped(node.tensor(0), node.dtype(0), node.attribute("min"), node.attribute("max"))


@converts("Clip", since=11)
def clip(node: Node) -> Expr:
    dtype = node.dtype(0)
    constants: list[Any] = [None, None]
    tensors: list[tuple[int, Expr]] = []
    for position in (0, 1):
        value = node.value(position + 1)
        if isinstance(value, np.ndarray):
            constants[position] = tirx.const(value.reshape(()).item(), dtype)
        elif value is not None:
            tensors.append((position, node.builder.reshape(node.tensor(position + 1), ())))

    if not tensors:
        low, high = (None if bound is None else bound.value for bound in constants)
        return clipped(node.tensor(0), dtype, low, high)

    def compute(x: te.Tensor, *bounds: te.Tensor) -> te.Tensor:
        limits = list(constants)
        for (position, _), bound in zip(tensors, bounds, strict=True):
            limits[position] = bound()
        return tabulate(x.shape, lambda *i: _clamped(x(*i), *limits), name="clip")

    return node.te(compute, node.tensor(0), *(tensor for _, tensor in tensors), name="clip")


def clipped(x: Expr, dtype: str, low: float | None, high: float | None) -> Expr:
    """x between known bounds, of which either may be missing."""
    if is_float(dtype):
        lowest, highest = -math.inf, math.inf
    else:
        lowest, highest = (int(limit(dtype).value) for limit in (tirx.min_value, tirx.max_value))
    bounds = (lowest if low is None else low, highest if high is None else high)
    return relax.op.clip(x, *(tirx.const(bound, dtype) for bound in bounds))


def _clamped(x: Any, low: Any, high: Any) -> Expr:
    """x between the bounds; NaN stays, and where the bounds cross the upper one wins."""
    if low is not None:
        x = tirx.Select(x < low, low, x)
    return x if high is None else tirx.Select(x > high, high, x)


@converts("Cast")
def cast(node: Node) -> Value:
    return cast_to(node, dtype_name(node.integer("to")))


@converts("CastLike")
def cast_like(node: Node) -> Value:
    return cast_to(node, node.dtype(1))


def cast_to(node: Node, target: str) -> Value:
    """The first input in another type; booleans are "not zero", as ONNX wants."""
    if node.dtype(0) == target:
        return node.value(0)
    tensor = node.builder.bound(node.tensor(0))
    source = node.builder.dtype(tensor)
    if is_narrow(target):
        saturate = bool(node.integer("saturate", 1))
        return encoded(node.builder, tensor, target, saturate, node.text("round_mode", "up"))
    if target == "bool" and source != "bool":
        zero = tirx.const(0, source)

        def differs(x: Any) -> Expr:
            return tirx.any(x != zero, tirx.isnan(x)) if is_float(source) else x != zero

        return map_elements(node, differs, tensor, name="cast_to_bool")
    return node.builder.cast(tensor, target)


def map_elements(node: Node, function: Callable[..., Expr], *tensors: Expr, name: str) -> Expr:
    """Applies a scalar function to every element of tensors that ``broadcastable`` has prepared."""
    builder = node.builder
    shape = builder.broadcast_shape(*(builder.shape(tensor) for tensor in tensors))

    def compute(*operands: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            return function(*(operand(*_places(node, operand, index)) for operand in operands))

        return tabulate(shape, element, name=name)

    return builder.te(compute, *tensors, name=name)


def _places(node: Node, operand: te.Tensor, index: tuple[Any, ...]) -> list[Any]:
    """Where a result's element finds its operand under broadcasting."""
    tail = index[len(index) - len(operand.shape) :]
    return [
        tirx.IntImm("int64", 0) if node.extents.equal(node.extents.simplify(extent), 1) else place
        for extent, place in zip(operand.shape, tail, strict=True)
    ]

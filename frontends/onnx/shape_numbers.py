"""Operators that compute with the elements of symbolic arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from tvm import tirx
from tvm.ir import Expr

from .extents import Extent, Extents
from .node import Node, normalize_axis
from .shape_evaluators import Elements, axes_given, elements_of, evaluates, like
from .values import SymbolicArray, Value, dtype_name, object_array


def _elementwise(function: Callable[..., Any], *arrays: Elements) -> Elements:
    broadcast = np.broadcast_arrays(*arrays)
    flat = zip(*(array.reshape(-1) for array in broadcast), strict=True)
    return object_array([function(*elements) for elements in flat]).reshape(broadcast[0].shape)


def _is_float(node: Node, index: int = 0) -> bool:
    return node.dtype(index).startswith(("float", "bfloat"))


@evaluates("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max")
def _arithmetic(node: Node) -> Value:
    compute = _FLOAT_ARITHMETIC if _is_float(node) else _INTEGER_ARITHMETIC
    function = compute.get(node.op_type)
    if function is None or (node.op_type == "Mod" and node.integer("fmod", 0)):
        return None
    total = elements_of(node, 0)
    for index in range(1, len(node.inputs)):
        total = _elementwise(lambda a, b: function(node.extents, a, b), total, elements_of(node, index))
    return None if any(element is None for element in total.flat) else like(node, total)


def _add(extents: Extents, a: Extent, b: Extent) -> Extent:
    return extents.simplify(a + b)


def _subtract(extents: Extents, a: Extent, b: Extent) -> Extent:
    return extents.simplify(a - b)


def _multiply(extents: Extents, a: Extent, b: Extent) -> Extent:
    return extents.simplify(a * b)


def _modulo(extents: Extents, a: Extent, b: Extent) -> Extent:
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    return extents.simplify(tirx.floormod(_int64(a), _int64(b)))


_INTEGER_ARITHMETIC: dict[str, Callable[[Extents, Any, Any], Any]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": Extents.truncate_divide,
    "Mod": _modulo,
    "Min": Extents.minimum,
    "Max": Extents.maximum,
}


@evaluates("Neg")
def _negate(node: Node) -> Value:
    return like(node, _elementwise(lambda a: _scaled(node.extents, a, -1, 1), elements_of(node, 0)))


# Floating-point elements are ratios of extents: shapes are cast to float, scaled, and cast back.


def _ratio(value: Any) -> tuple[Extent, Extent] | None:
    """(numerator, denominator) of a float element that is exactly a ratio of extents, else None."""
    if isinstance(value, int | float):
        numerator, denominator = float(value).as_integer_ratio()
        return (numerator, denominator) if denominator <= 1 << 20 else None
    if isinstance(value, tirx.Cast) and str(value.value.ty.dtype) == "int64":
        return value.value, 1
    if isinstance(value, tirx.Div):
        top, bottom = _ratio(value.a), _ratio(value.b)
        return None if top is None or bottom is None else (top[0] * bottom[1], top[1] * bottom[0])
    return None


def _as_float(extents: Extents, numerator: Extent, denominator: Extent) -> Any:
    numerator, denominator = extents.simplify(numerator), extents.simplify(denominator)
    if isinstance(numerator, int) and isinstance(denominator, int):
        return numerator / denominator if denominator else math.nan
    quotient = extents.floor_divide(numerator, denominator)
    if extents.equal(quotient * denominator, numerator):
        return _float_of(quotient)
    return tirx.Div(_float_of(numerator), _float_of(denominator))


def _float_of(extent: Extent) -> Any:
    return tirx.Cast("float64", _int64(extent))


def _int64(value: Extent) -> Expr:
    return tirx.IntImm("int64", value) if isinstance(value, int) else value


def _scaled(extents: Extents, value: Any, numerator: int, denominator: int) -> Any:
    if isinstance(value, int | float):
        return value * numerator // denominator if isinstance(value, int) else value * numerator / denominator
    ratio = _ratio(value) if not str(value.ty.dtype).startswith("int") else None
    if ratio is None:
        return extents.simplify(value * numerator)
    return _as_float(extents, ratio[0] * numerator, ratio[1] * denominator)


def _float_arithmetic(combine: Callable[[Any, Any, Any, Any], tuple[Any, Any]]) -> Any:
    def compute(extents: Extents, a: Any, b: Any) -> Any:
        left, right = _ratio(a), _ratio(b)
        if left is None or right is None:
            return None
        return _as_float(extents, *combine(left[0], left[1], right[0], right[1]))

    return compute


_FLOAT_ARITHMETIC: dict[str, Callable[[Extents, Any, Any], Any]] = {
    "Add": _float_arithmetic(lambda a, b, c, d: (a * d + c * b, b * d)),
    "Sub": _float_arithmetic(lambda a, b, c, d: (a * d - c * b, b * d)),
    "Mul": _float_arithmetic(lambda a, b, c, d: (a * c, b * d)),
    "Div": _float_arithmetic(lambda a, b, c, d: (a * d, b * c)),
}


@evaluates("Floor", "Ceil")
def _round(node: Node) -> Value:
    divide = node.extents.floor_divide if node.op_type == "Floor" else node.extents.ceil_divide
    ratios = [_ratio(element) for element in elements_of(node, 0).flat]
    if any(ratio is None for ratio in ratios):
        return None
    rounded = [_as_float(node.extents, divide(*ratio), 1) for ratio in ratios if ratio is not None]
    return like(node, object_array(rounded).reshape(elements_of(node, 0).shape))


@evaluates("Cast")
def _cast(node: Node) -> Value:
    target = dtype_name(node.integer("to"))
    source = node.dtype(0)
    convert = _CASTS.get((_kind(source), _kind(target)))
    if convert is None:
        return None
    elements = _elementwise(lambda a: convert(node.extents, a), elements_of(node, 0))
    return None if any(e is None for e in elements.flat) else SymbolicArray(elements, target)


def _kind(dtype: str) -> str:
    return "float" if dtype.startswith(("float", "bfloat")) else "bool" if dtype == "bool" else "int"


def _truncate(extents: Extents, value: Any) -> Any:
    if isinstance(value, int | float):
        return int(value)
    ratio = _ratio(value)
    return None if ratio is None else extents.truncate_divide(*ratio)


def _to_bool(extents: Extents, value: Any) -> Any:
    if isinstance(value, int | float):
        return bool(value)
    known = extents.decide(tirx.NE(value, tirx.IntImm("int64", 0)))
    return known if known is not None else tirx.NE(value, tirx.IntImm("int64", 0))


def _from_bool(_: Extents, value: Any) -> Any:
    one, zero = tirx.IntImm("int64", 1), tirx.IntImm("int64", 0)
    return int(value) if isinstance(value, bool | int) else tirx.Select(value, one, zero)


_CASTS: dict[tuple[str, str], Callable[[Extents, Any], Any]] = {
    ("int", "int"): lambda _, value: value,
    ("float", "float"): lambda _, value: value,
    ("bool", "bool"): lambda _, value: value,
    ("int", "float"): lambda extents, value: _as_float(extents, value, 1),
    ("float", "int"): _truncate,
    ("int", "bool"): _to_bool,
    ("bool", "int"): _from_bool,
}


# Comparison and logic.


@evaluates("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def _compare(node: Node) -> Value:
    if _kind(node.dtype(0)) != "int":
        return None
    symbolic_test, known_test = _COMPARISONS[node.op_type]

    def test(a: Any, b: Any) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            return known_test(a, b)
        condition = symbolic_test(_int64(a), _int64(b))
        known = node.extents.decide(condition)
        return condition if known is None else known

    return SymbolicArray(_elementwise(test, elements_of(node, 0), elements_of(node, 1)), "bool")


_COMPARISONS: dict[str, tuple[Any, Callable[[int, int], bool]]] = {
    "Equal": (tirx.EQ, lambda a, b: a == b),
    "Less": (tirx.LT, lambda a, b: a < b),
    "LessOrEqual": (tirx.LE, lambda a, b: a <= b),
    "Greater": (tirx.GT, lambda a, b: a > b),
    "GreaterOrEqual": (tirx.GE, lambda a, b: a >= b),
}


@evaluates("Not")
def _not(node: Node) -> Value:
    def negate(a: Any) -> Any:
        return tirx.Not(a) if isinstance(a, Expr) else not a

    return SymbolicArray(_elementwise(negate, elements_of(node, 0)), "bool")


@evaluates("And", "Or")
def _logic(node: Node) -> Value:
    absorbing = node.op_type == "Or"
    combine = tirx.Or if absorbing else tirx.And

    def decide(a: Any, b: Any) -> Any:
        if not isinstance(a, Expr):
            return absorbing if bool(a) == absorbing else b
        if not isinstance(b, Expr):
            return absorbing if bool(b) == absorbing else a
        return combine(a, b)

    return SymbolicArray(_elementwise(decide, elements_of(node, 0), elements_of(node, 1)), "bool")


@evaluates("Where")
def _where(node: Node) -> Value:
    if _kind(node.dtype(1)) != "int":
        return None

    def choose(condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(condition, Expr):
            return a if condition else b
        if node.extents.equal(a, b):
            return a
        return tirx.Select(condition, _int64(a), _int64(b))

    return like(node, _elementwise(choose, *(elements_of(node, i) for i in range(3))), 1)


# Reduction and generation.


@evaluates("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin")
def _reduce(node: Node) -> Value:
    if _is_float(node):
        return None
    axes = axes_given(node)
    if axes is None and node.integer("noop_with_empty_axes", 0):
        return node.value(0)
    data = elements_of(node, 0)
    chosen = tuple(range(data.ndim)) if not axes else tuple(normalize_axis(axis, data.ndim) for axis in axes)
    name = {"ReduceSum": "Add", "ReduceProd": "Mul", "ReduceMax": "Max", "ReduceMin": "Min"}[node.op_type]
    combine = _INTEGER_ARITHMETIC[name]
    if any(data.shape[axis] == 0 for axis in chosen):
        return None
    for axis in chosen:
        parts = [np.take(data, [i], axis=axis) for i in range(data.shape[axis])]
        data = parts[0]
        for part in parts[1:]:
            data = _elementwise(lambda a, b: combine(node.extents, a, b), data, part)
    return like(node, data if node.integer("keepdims", 1) else np.squeeze(data, axis=chosen))


@evaluates("Range")
def _range(node: Node) -> Value:
    if _is_float(node):
        return None
    start, limit, step = (elements_of(node, i).reshape(-1)[0] for i in range(3))
    if not isinstance(step, int):
        return None
    difference = node.extents.simplify(limit - start)
    if not isinstance(difference, int):
        return None
    count = max(0, -(-difference // step))
    return like(node, object_array([node.extents.simplify(start + i * step) for i in range(count)]))


def scaled_extent(extents: Extents, extent: Extent, scale: Any) -> Extent:
    """floor(extent * scale), as Resize defines its result. Raises ValueError for a scale that is no ratio."""
    if isinstance(extent, int) and isinstance(scale, int | float):
        return math.floor(extent * scale)
    ratio = _ratio(scale)
    if ratio is None and isinstance(scale, int | float):
        fraction = Fraction(scale).limit_denominator(1 << 16)
        ratio = (fraction.numerator, fraction.denominator)
    if ratio is None:
        raise ValueError("a scale is not a ratio of extents")
    return extents.floor_divide(extents.simplify(extent * ratio[0]), extents.simplify(ratio[1]))


def whole_number(extents: Extents, element: Any) -> Extent | None:
    """An element of a symbolic array as an extent, if it is certainly a whole number."""
    if isinstance(element, int):
        return element
    if isinstance(element, Expr) and str(element.ty.dtype).startswith("int"):
        return element
    ratio = _ratio(element)
    if ratio is None:
        return None
    quotient = extents.floor_divide(*ratio)
    return quotient if extents.equal(extents.simplify(quotient * ratio[1]), ratio[0]) else None

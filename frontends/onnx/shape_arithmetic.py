"""Evaluation of operators on shapes and on what models compute from them.

Every function takes a node whose inputs are constants or symbolic arrays and gives its outputs as such,
or None where the operator has to run on data.
"""

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
from .values import SymbolicArray, Value, dtype_name, freeze, is_constant, is_shape_like, object_array

Elements = np.ndarray[Any, np.dtype[np.object_]]
_MAX_ELEMENTS = 4096

_evaluators: dict[str, Callable[[Node], Value | list[Value]]] = {}


def evaluate(node: Node) -> list[Value] | None:
    """The node's outputs, if it is arithmetic on shapes and nothing else."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if all(is_constant(value) for value in node.inputs) and node.op_type != "ConstantOfShape":
        return None
    if node.op_type not in _evaluators or not all(is_shape_like(value) for value in node.inputs):
        return None
    result = _evaluators[node.op_type](node)
    if result is None:
        return None
    results = result if isinstance(result, list) else [result]
    return [freeze(r) if isinstance(r, SymbolicArray) else r for r in results]


def _evaluates(*op_types: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _evaluators.update(dict.fromkeys(op_types, function))
        return function

    return register


def _elements(node: Node, index: int) -> Elements:
    value = node.value(index)
    if isinstance(value, SymbolicArray):
        return value.elements
    assert isinstance(value, np.ndarray)
    return object_array([element.item() for element in value.reshape(-1)]).reshape(value.shape)


def _like(node: Node, elements: Any, index: int = 0) -> SymbolicArray:
    array = elements if isinstance(elements, np.ndarray) else object_array([elements]).reshape(())
    return SymbolicArray(array, node.dtype(index))


# Structure: the elements move, none is computed.


@_evaluates("Identity")
def _identity(node: Node) -> Value:
    return node.value(0)


@_evaluates("Concat")
def _concat(node: Node) -> Value:
    axis = node.integer("axis", 0)
    return _like(node, np.concatenate([_elements(node, i) for i in range(len(node.inputs))], axis=axis))


@_evaluates("Gather")
def _gather(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    return _like(node, np.take(_elements(node, 0), node.constant(1), axis=node.integer("axis", 0)))


@_evaluates("Slice")
def _slice(node: Node) -> Value:
    bounds = _slice_bounds(node)
    if bounds is None:
        return None
    data = _elements(node, 0)
    starts, ends, axes, steps = bounds
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        floor = -data.shape[axis] - 1
        index[axis] = slice(start, None if step < 0 and end <= floor else end, step)
    return _like(node, data[tuple(index)])


def _slice_bounds(node: Node) -> tuple[list[int], list[int], list[int], list[int]] | None:
    if node.opset < 10:
        starts, ends = list(node.integers("starts")), list(node.integers("ends"))
        return starts, ends, list(node.integers("axes", range(len(starts)))), [1] * len(starts)
    if not all(is_constant(value) for value in node.inputs[1:]):
        return None
    starts, ends = node.constant(1).tolist(), node.constant(2).tolist()
    axes = node.constant(3).tolist() if node.has(3) else list(range(len(starts)))
    steps = node.constant(4).tolist() if node.has(4) else [1] * len(starts)
    return starts, ends, axes, steps


def _axes(node: Node) -> list[int] | None:
    """Axes from the attribute or, from opset 13 on, the input; None if absent."""
    if node.has_attribute("axes"):
        return list(node.integers("axes"))
    return [int(axis) for axis in node.constant(1)] if node.has(1) else None


@_evaluates("Unsqueeze")
def _unsqueeze(node: Node) -> Value:
    data, axes = _elements(node, 0), _axes(node) or []
    rank = data.ndim + len(axes)
    places = {normalize_axis(axis, rank) for axis in axes}
    extents = iter(data.shape)
    return _like(node, data.reshape([1 if axis in places else next(extents) for axis in range(rank)]))


@_evaluates("Squeeze")
def _squeeze(node: Node) -> Value:
    axes = _axes(node)
    return _like(node, np.squeeze(_elements(node, 0), axis=None if axes is None else tuple(axes)))


@_evaluates("Reshape")
def _reshape(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    data = _elements(node, 0)
    zero_is_zero = node.integer("allowzero", 0)
    target = [
        data.shape[axis] if extent == 0 and not zero_is_zero else int(extent)
        for axis, extent in enumerate(node.constant(1))
    ]
    return _like(node, data.reshape(target))


@_evaluates("Flatten")
def _flatten(node: Node) -> Value:
    data = _elements(node, 0)
    axis = node.integer("axis", 1)
    return _like(node, data.reshape(math.prod(data.shape[:axis]), -1))


@_evaluates("Transpose")
def _transpose(node: Node) -> Value:
    return _like(node, np.transpose(_elements(node, 0), node.optional_integers("perm")))


@_evaluates("Expand")
def _expand(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    data = _elements(node, 0)
    shape = np.broadcast_shapes(data.shape, tuple(node.constant(1)))
    return _like(node, np.broadcast_to(data, shape)) if math.prod(shape) <= _MAX_ELEMENTS else None


@_evaluates("Tile")
def _tile(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    return _like(node, np.tile(_elements(node, 0), tuple(node.constant(1))))


@_evaluates("Split")
def _split(node: Node) -> list[Value] | None:
    data = _elements(node, 0)
    axis = node.integer("axis", 0)
    if node.has_attribute("split"):
        sizes = list(node.integers("split"))
    elif node.has(1):
        sizes = [int(size) for size in node.constant(1)]
    else:
        count = len(node.outputs)
        size = -(-data.shape[axis] // count)
        sizes = [size] * (count - 1) + [data.shape[axis] - size * (count - 1)]
    return [_like(node, part) for part in np.split(data, np.cumsum(sizes)[:-1], axis=axis)]


@_evaluates("ConstantOfShape")
def _constant_of_shape(node: Node) -> Value:
    shape = node.value(0)
    if not isinstance(shape, np.ndarray) or math.prod(int(e) for e in shape) > _MAX_ELEMENTS:
        return None
    tensor = node.attribute("value")
    from .constant_folding import constant_tensor

    fill = np.zeros(1, np.float32) if tensor is None else constant_tensor(tensor)
    return np.full([int(e) for e in shape], fill.reshape(-1)[0], fill.dtype)


# Arithmetic: element by element, with NumPy's broadcasting.


def _elementwise(function: Callable[..., Any], *arrays: Elements) -> Elements:
    broadcast = np.broadcast_arrays(*arrays)
    flat = zip(*(array.reshape(-1) for array in broadcast), strict=True)
    return object_array([function(*elements) for elements in flat]).reshape(broadcast[0].shape)


def _is_float(node: Node, index: int = 0) -> bool:
    return node.dtype(index).startswith(("float", "bfloat"))


@_evaluates("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max")
def _arithmetic(node: Node) -> Value:
    compute = _FLOAT_ARITHMETIC if _is_float(node) else _INTEGER_ARITHMETIC
    function = compute.get(node.op_type)
    if function is None or (node.op_type == "Mod" and node.integer("fmod", 0)):
        return None
    total = _elements(node, 0)
    for index in range(1, len(node.inputs)):
        total = _elementwise(lambda a, b: function(node.extents, a, b), total, _elements(node, index))
    return None if any(element is None for element in total.flat) else _like(node, total)


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


@_evaluates("Neg")
def _negate(node: Node) -> Value:
    return _like(node, _elementwise(lambda a: _scaled(node.extents, a, -1, 1), _elements(node, 0)))


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


@_evaluates("Floor", "Ceil")
def _round(node: Node) -> Value:
    divide = node.extents.floor_divide if node.op_type == "Floor" else node.extents.ceil_divide
    ratios = [_ratio(element) for element in _elements(node, 0).flat]
    if any(ratio is None for ratio in ratios):
        return None
    rounded = [_as_float(node.extents, divide(*ratio), 1) for ratio in ratios if ratio is not None]
    return _like(node, object_array(rounded).reshape(_elements(node, 0).shape))


@_evaluates("Cast")
def _cast(node: Node) -> Value:
    target = dtype_name(node.integer("to"))
    source = node.dtype(0)
    convert = _CASTS.get((_kind(source), _kind(target)))
    if convert is None:
        return None
    elements = _elementwise(lambda a: convert(node.extents, a), _elements(node, 0))
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


@_evaluates("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
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

    return SymbolicArray(_elementwise(test, _elements(node, 0), _elements(node, 1)), "bool")


_COMPARISONS: dict[str, tuple[Any, Callable[[int, int], bool]]] = {
    "Equal": (tirx.EQ, lambda a, b: a == b),
    "Less": (tirx.LT, lambda a, b: a < b),
    "LessOrEqual": (tirx.LE, lambda a, b: a <= b),
    "Greater": (tirx.GT, lambda a, b: a > b),
    "GreaterOrEqual": (tirx.GE, lambda a, b: a >= b),
}


@_evaluates("Not")
def _not(node: Node) -> Value:
    def negate(a: Any) -> Any:
        return tirx.Not(a) if isinstance(a, Expr) else not a

    return SymbolicArray(_elementwise(negate, _elements(node, 0)), "bool")


@_evaluates("And", "Or")
def _logic(node: Node) -> Value:
    absorbing = node.op_type == "Or"
    combine = tirx.Or if absorbing else tirx.And

    def decide(a: Any, b: Any) -> Any:
        if not isinstance(a, Expr):
            return absorbing if bool(a) == absorbing else b
        if not isinstance(b, Expr):
            return absorbing if bool(b) == absorbing else a
        return combine(a, b)

    return SymbolicArray(_elementwise(decide, _elements(node, 0), _elements(node, 1)), "bool")


@_evaluates("Where")
def _where(node: Node) -> Value:
    if _kind(node.dtype(1)) != "int":
        return None

    def choose(condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(condition, Expr):
            return a if condition else b
        if node.extents.equal(a, b):
            return a
        return tirx.Select(condition, _int64(a), _int64(b))

    return _like(node, _elementwise(choose, *(_elements(node, i) for i in range(3))), 1)


# Reduction and generation.


@_evaluates("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin")
def _reduce(node: Node) -> Value:
    if _is_float(node):
        return None
    axes = _axes(node)
    if axes is None and node.integer("noop_with_empty_axes", 0):
        return node.value(0)
    data = _elements(node, 0)
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
    return _like(node, data if node.integer("keepdims", 1) else np.squeeze(data, axis=chosen))


@_evaluates("Range")
def _range(node: Node) -> Value:
    if _is_float(node):
        return None
    start, limit, step = (_elements(node, i).reshape(-1)[0] for i in range(3))
    if not isinstance(step, int):
        return None
    difference = node.extents.simplify(limit - start)
    if not isinstance(difference, int):
        return None
    count = max(0, -(-difference // step))
    return _like(node, object_array([node.extents.simplify(start + i * step) for i in range(count)]))


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

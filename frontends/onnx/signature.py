"""The inputs and outputs of a graph: declared shapes, what the user binds, symbolic names."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as PySequence
from dataclasses import dataclass

import numpy as np
import onnx
from tvm import relax, tirx
from tvm.ir import Expr, Var

from ...runtime.errors import ShapeError, UnsupportedOperatorError
from ...runtime.signature import Dim, TensorSpec
from .extents import Extent, Extents, as_expression
from .structured_inputs import bind_structure
from .tensor_sizes import LIMITS, is_addressable
from .values import Array, NarrowTensor, Sequence, Value, dtype_name, is_narrow, storage_dtype

_ANONYMOUS = ("", "?", "-1", "None")


@dataclass(frozen=True)
class GraphInputs:
    """A graph's inputs, ready to be walked from.

    Attributes:
        graph: the graph.
        parameters: the Relax function's parameters, one for each run-time input.
        specs: the same for the user.
        values: name -> value for every input, static ones included.
    """

    graph: onnx.GraphProto
    parameters: list[Expr]
    specs: tuple[TensorSpec, ...]
    values: dict[str, Value]


def bind_inputs(
    graph: onnx.GraphProto,
    extents: Extents,
    shapes: Mapping[str, PySequence[int]],
    static_inputs: Mapping[str, np.ndarray],
) -> GraphInputs:
    """Makes the parameters of the function. Raises ShapeError where the bindings do not fit the model."""
    initialized = {initializer.name for initializer in graph.initializer}
    declared = [value for value in graph.input if value.name not in initialized]
    names = [value.name for value in declared]
    _refuse_unknown(names, shapes, "shapes")
    _refuse_unknown([*names, *sorted(initialized)], static_inputs, "static_inputs")
    bound = _bound_dimensions(declared, shapes, static_inputs)
    parameters: list[Expr] = []
    specs: list[TensorSpec] = []
    values: dict[str, Value] = {}
    for value in declared:
        if value.name in static_inputs:
            values[value.name] = _static_value(value, static_inputs[value.name])
            continue
        if value.type.WhichOneof("value") != "tensor_type":
            structure = bind_structure(value, extents, shapes.get(value.name))
            values[value.name] = structure.value
            parameters += structure.parameters
            specs.append(structure.spec)
            continue
        dtype = _element_type(value)
        shape, dims = _input_shape(value, extents, bound, shapes.get(value.name))
        stored = relax.TensorType([as_expression(e) for e in shape], storage_dtype(dtype))
        parameter = relax.Var(value.name, stored)
        parameters.append(parameter)
        values[value.name] = NarrowTensor(parameter, dtype) if is_narrow(dtype) else parameter
        specs.append(TensorSpec(value.name, dims, dtype))
    for name in static_inputs.keys() & initialized:
        values[name] = np.asarray(static_inputs[name])
    return GraphInputs(graph, parameters, tuple(specs), values)


def _refuse_unknown(names: PySequence[str], given: Mapping[str, object], what: str) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ShapeError(f"{what}: the model has no input '{unknown[0]}'; its inputs are {', '.join(names)}")


def _static_value(declared: onnx.ValueInfoProto, value: object) -> Value:
    """A bound value: an array, a list for a sequence, None for an absent optional."""
    kind = declared.type.WhichOneof("value")
    if kind == "tensor_type":
        return _static_tensor(declared.name, value, dtype_name(declared.type.tensor_type.elem_type))
    return _static_structure(value)


def _static_structure(value: object) -> Value:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return Sequence(tuple(_static_structure(item) for item in value))
    return np.asarray(value)


def _static_tensor(name: str, value: object, dtype: str) -> Array:
    array = np.asarray(value)
    if str(array.dtype) != dtype:
        raise ShapeError(f"static input '{name}' has dtype {array.dtype}, but the model declares {dtype}")
    return array


def _element_type(value: onnx.ValueInfoProto) -> str:
    try:
        return dtype_name(value.type.tensor_type.elem_type)
    except UnsupportedOperatorError as error:
        raise UnsupportedOperatorError(f"input '{value.name}': {error}") from None


def _declared_dims(value: onnx.ValueInfoProto) -> list[int | str] | None:
    """An int or a name for each axis, "" for a nameless one; None if even the rank is unknown."""
    tensor_type = value.type.tensor_type
    if not tensor_type.HasField("shape"):
        return None
    dims: list[int | str] = []
    for dim in tensor_type.shape.dim:
        if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0:
            dims.append(dim.dim_value)
        else:
            dims.append("" if dim.dim_param in _ANONYMOUS else dim.dim_param)
    return dims


def _bound_dimensions(
    declared: PySequence[onnx.ValueInfoProto],
    shapes: Mapping[str, PySequence[int]],
    static_inputs: Mapping[str, np.ndarray],
) -> dict[str, int]:
    """Symbolic name -> extent, from all that the user binds. Raises ShapeError on contradictions."""
    bound: dict[str, int] = {}
    for value in declared:
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        bound_value = static_inputs.get(value.name)
        given = bound_value.shape if isinstance(bound_value, np.ndarray) else shapes.get(value.name)
        dims = _declared_dims(value)
        if given is None or dims is None:
            continue
        if len(given) != len(dims):
            raise ShapeError(
                f"input '{value.name}' has rank {len(dims)}, but {list(given)} has rank {len(given)}"
            )
        for dim, extent in zip(dims, given, strict=True):
            _bind(value.name, dim, int(extent), bound)
    return bound


def _bind(name: str, dim: int | str, extent: int, bound: dict[str, int]) -> None:
    if extent < 0:
        raise ShapeError(f"input '{name}': the extent {extent} is negative")
    known = dim if isinstance(dim, int) else bound.get(dim) if dim else None
    if known is not None and known != extent:
        raise ShapeError(f"input '{name}': dimension {dim or known} is {known}, not {extent}")
    if isinstance(dim, str) and dim:
        bound[dim] = extent


def _input_shape(
    value: onnx.ValueInfoProto,
    extents: Extents,
    bound: Mapping[str, int],
    given: PySequence[int] | None,
) -> tuple[list[Extent], tuple[Dim, ...]]:
    dims = _declared_dims(value)
    if dims is None:
        if given is None:
            raise ShapeError(f"input '{value.name}' has no declared rank; bind its shape with shapes")
        dims = [int(extent) for extent in given]
    shape: list[Extent] = []
    for axis, dim in enumerate(dims):
        if isinstance(dim, int):
            shape.append(dim)
        elif given is not None:
            shape.append(int(given[axis]))
        elif dim in bound:
            shape.append(bound[dim])
        else:
            shape.append(extents.variable(dim) if dim else extents.fresh(f"{value.name}_d{axis}"))
    if not is_addressable(extent for extent in shape if isinstance(extent, int)):
        raise ShapeError(f"input '{value.name}' of shape {shape} is too large: {LIMITS}")
    return shape, tuple(extent if isinstance(extent, int) else extent.name for extent in shape)


_INFIX = {
    tirx.Add: "+", tirx.Sub: "-", tirx.Mul: "*", tirx.FloorDiv: "//", tirx.FloorMod: "%",
    tirx.EQ: "==", tirx.NE: "!=", tirx.LT: "<", tirx.LE: "<=", tirx.GT: ">", tirx.GE: ">=",
}  # fmt: skip
_CALLS = {tirx.Min: "min", tirx.Max: "max", tirx.Div: "trunc_div", tirx.Mod: "trunc_mod"}


def format_extent(extent: Expr) -> str:
    """An extent as text, in the syntax of Python: ``"height // 2"``."""
    if isinstance(extent, Var):
        return str(extent.name)
    if isinstance(extent, tirx.IntImm):
        return str(extent.value)
    kind = type(extent)
    if kind in _INFIX:
        return f"{_operand(extent.a)} {_INFIX[kind]} {_operand(extent.b)}"
    if kind in _CALLS:
        return f"{_CALLS[kind]}({format_extent(extent.a)}, {format_extent(extent.b)})"
    return str(extent).replace("T.int64", "").replace("\n", " ")


def _operand(extent: Expr) -> str:
    text = format_extent(extent)
    return text if isinstance(extent, Var | tirx.IntImm) or type(extent) in _CALLS else f"({text})"

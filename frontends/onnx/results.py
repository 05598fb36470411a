"""What a model's outputs become: expressions in ``main``'s result, and specs for the caller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from tvm import relax
from tvm.ir import Expr

from ...runtime.signature import Dim, Kind, TensorSpec
from .extents import Extent
from .graph_builder import GraphBuilder
from .narrow_types import stored
from .run_time_sequences import rank_of
from .signature import format_extent
from .values import (
    NarrowTensor,
    RunTimeOptional,
    RunTimeSequence,
    Sequence,
    SymbolicArray,
    Value,
    dtype_name,
    is_narrow,
)


def result_expression(builder: GraphBuilder, value: Value) -> Expr:
    """The expression that hands a value out: a tuple for a sequence, a null for an absent optional."""
    if value is None:
        return builder.block_builder.emit(relax.op.null_value())
    if isinstance(value, Sequence):
        return relax.Tuple([result_expression(builder, item) for item in value.items])
    if isinstance(value, RunTimeSequence):
        return relax.Tuple([value.elements, value.shapes])
    if isinstance(value, RunTimeOptional):
        inner = result_expression(builder, value.value)
        return relax.Tuple([value.present, *(inner.fields if isinstance(inner, relax.Tuple) else [inner])])
    if isinstance(value, NarrowTensor):
        return value.storage
    if isinstance(value, np.ndarray) and is_narrow(str(value.dtype)):
        return builder.constant(stored(value))
    return builder.tensor(value)


def result_spec(builder: GraphBuilder, declared: onnx.ValueInfoProto, value: Value) -> TensorSpec:
    """What a caller is told about an output; of a sequence, what its entries are."""
    if isinstance(value, Sequence) and value.items:
        return result_spec(builder, declared, value.items[0])
    if isinstance(value, RunTimeSequence):
        rank, dtype = rank_of(builder, value), builder.dtype(value.elements)
        shape = tuple(f"{declared.name}_d{axis}" for axis in range(rank))
        return TensorSpec(declared.name, shape, dtype, "sequence")
    if isinstance(value, RunTimeOptional):
        inner = result_spec(builder, declared, value.value)
        kind: Kind = "optional sequence" if inner.kind == "sequence" else "optional"
        return replace(inner, kind=kind)
    if value is None or isinstance(value, Sequence):
        return TensorSpec(declared.name, (), _declared_dtype(declared.type))
    if isinstance(value, np.ndarray | SymbolicArray):
        return TensorSpec(declared.name, tuple(map(_dim, value.shape)), str(value.dtype))
    tensor = value.storage if isinstance(value, NarrowTensor) else value
    dtype = value.dtype if isinstance(value, NarrowTensor) else builder.dtype(tensor)
    return TensorSpec(declared.name, tuple(map(_dim, builder.shape(tensor))), dtype)


def _dim(extent: Extent) -> Dim:
    return extent if isinstance(extent, int) else format_extent(extent)


def _declared_dtype(declared: onnx.TypeProto) -> str:
    """The element type in a declaration, however deep; float32 where there is none."""
    kind = declared.WhichOneof("value")
    if kind == "tensor_type":
        return dtype_name(declared.tensor_type.elem_type)
    if kind in ("sequence_type", "optional_type"):
        return _declared_dtype(getattr(declared, kind).elem_type)
    return "float32"

"""Inputs of a graph that are sequences or optionals: parameters for them, and what callers see."""

from __future__ import annotations

from collections.abc import Sequence as PySequence
from dataclasses import dataclass

import onnx
from tvm import relax
from tvm.ir import Expr

from ...runtime.errors import StaticInputRequired, UnsupportedOperatorError
from ...runtime.signature import Dim, Kind, TensorSpec
from ...runtime.structures import is_optional, is_sequence, tensors_of
from .extents import Extent, Extents, as_expression
from .values import RunTimeOptional, RunTimeSequence, Value, dtype_name, is_narrow


@dataclass(frozen=True)
class StructuredInput:
    """One input.

    Attributes:
        spec: what a caller passes.
        parameters: of the Relax function, one for each of ``tensors_of(spec)``.
        value: what the graph computes with.
    """

    spec: TensorSpec
    parameters: list[Expr]
    value: Value


def bind_structure(
    declared: onnx.ValueInfoProto, extents: Extents, given: PySequence[int] | None
) -> StructuredInput:
    """Makes the parameters for a sequence or an optional.

    Args:
        declared: the input.
        extents: the model's symbolic dimensions.
        given: the shape of every entry, if the caller binds it.

    Raises:
        StaticInputRequired: the entries' rank depends on the value.
        UnsupportedOperatorError: sequences of such entries do not compile.
    """
    kind, entry = _kind(declared)
    shape = _entry_shape(declared.name, entry, given)
    spec = TensorSpec(declared.name, shape, dtype_name(entry.elem_type), kind)
    if is_narrow(spec.dtype):
        raise UnsupportedOperatorError(
            f"input '{declared.name}': {kind}s of {spec.dtype} are not supported; pass it with static_inputs"
        )
    variables: dict[str, Extent] = {}

    def extent(dim: Dim) -> Extent:
        if isinstance(dim, int):
            return dim
        return variables.setdefault(dim, extents.fresh(dim.replace(".", "_")))

    parameters: list[Expr] = [
        relax.Var(
            part.name.replace(".", "_"),
            relax.TensorType([as_expression(extent(dim)) for dim in part.shape], part.dtype),
        )
        for part in tensors_of(spec)
    ]
    value: Value = RunTimeSequence(*parameters[-2:]) if is_sequence(spec) else parameters[-1]
    if is_optional(spec):
        value = RunTimeOptional(parameters[0], value)
    return StructuredInput(spec, parameters, value)


def _kind(declared: onnx.ValueInfoProto) -> tuple[Kind, onnx.TypeProto.Tensor]:
    outer = declared.type
    optional = outer.WhichOneof("value") == "optional_type"
    inner = outer.optional_type.elem_type if optional else outer
    sequence = inner.WhichOneof("value") == "sequence_type"
    entry = inner.sequence_type.elem_type if sequence else inner
    if entry.WhichOneof("value") != "tensor_type":
        raise UnsupportedOperatorError(
            f"input '{declared.name}': its type, {outer.WhichOneof('value')} of "
            f"{inner.WhichOneof('value')}, is not supported"
        )
    if optional:
        return ("optional sequence" if sequence else "optional"), entry.tensor_type
    return "sequence", entry.tensor_type


def _entry_shape(name: str, entry: onnx.TypeProto.Tensor, given: PySequence[int] | None) -> tuple[Dim, ...]:
    """The extents of an entry; each open one has a name of its own, for entries may differ."""
    if given is not None:
        return tuple(given)
    if not entry.HasField("shape"):
        raise StaticInputRequired(
            f"input '{name}' is of entries whose rank is not declared; bind it with shapes or "
            f"pass static_inputs for '{name}'",
            (name,),
        )
    return tuple(
        dim.dim_value if dim.dim_value > 0 else f"{name}_d{axis}" for axis, dim in enumerate(entry.shape.dim)
    )

"""Operators that the specification defines by a graph of simpler ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from tvm import relax
from tvm.ir import Expr

from .values import SymbolicArray, Value, onnx_type


def has_body(domain: str, op_type: str, opset: int) -> bool:
    """Whether the specification gives the operator a body (perhaps one that depends on its inputs)."""
    schema = _schema(domain, op_type, opset)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def body_of(proto: onnx.NodeProto, opset: int, inputs: Sequence[Value]) -> onnx.FunctionProto | None:
    """The body of one node, its attributes put in; None if the specification has none for these inputs."""
    schema = _schema(proto.domain, proto.op_type, opset)
    if schema is None:
        return None
    data = b""
    if schema.has_context_dependent_function:
        version = max(v for v in schema.context_dependent_function_opset_versions if v <= max(opset, v))
        types = [_type_of(value).SerializeToString() for value in inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            version, proto.SerializeToString(), types
        )
    elif schema.has_function:
        version = max(v for v in schema.function_opset_versions if v <= max(opset, v))
        data = schema.get_function_with_opset_version(version)
    if not data:
        return None
    function = onnx.FunctionProto.FromString(data)
    _put_attributes(function.node, _attributes(function, schema, proto))
    return function


def _schema(domain: str, op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


def _type_of(value: Value) -> onnx.TypeProto:
    if isinstance(value, np.ndarray | SymbolicArray):
        return onnx.helper.make_tensor_type_proto(onnx_type(str(value.dtype)), value.shape)
    if isinstance(value, Expr) and isinstance(value.ty, relax.TensorType):
        dtype = str(value.ty.dtype.dtype) if hasattr(value.ty.dtype, "dtype") else str(value.ty.dtype)
        extents = [int(e.value) if hasattr(e, "value") else None for e in value.ty.shape.values]
        return onnx.helper.make_tensor_type_proto(onnx_type(dtype), extents)
    return onnx.TypeProto()


def _attributes(
    function: onnx.FunctionProto, schema: onnx.defs.OpSchema, proto: onnx.NodeProto
) -> dict[str, onnx.AttributeProto]:
    known = {attribute.name: attribute for attribute in function.attribute_proto}
    for name, declared in schema.attributes.items():
        if declared.default_value.type != onnx.AttributeProto.UNDEFINED:
            known.setdefault(name, declared.default_value)
    known.update({attribute.name: attribute for attribute in proto.attribute})
    return known


def _put_attributes(nodes: Sequence[onnx.NodeProto], values: dict[str, onnx.AttributeProto]) -> None:
    """Replaces references to the function's attributes by their values; absent ones disappear."""
    for node in nodes:
        given = []
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name not in values:
                    continue
                name = attribute.name
                attribute.CopyFrom(values[attribute.ref_attr_name])
                attribute.name = name
            elif attribute.HasField("g"):
                _put_attributes(attribute.g.node, values)
            copied = onnx.AttributeProto()
            copied.CopyFrom(attribute)
            given.append(copied)
        del node.attribute[:]
        node.attribute.extend(given)

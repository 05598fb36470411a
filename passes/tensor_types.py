"""What the type of a Relax tensor says: its elements, extents and bytes."""

from __future__ import annotations

import math

import tvm
from tvm import relax, tirx


def element_type(tensor: relax.Expr) -> str:
    """The name of the type of a tensor's elements."""
    return str(tensor.ty.dtype.dtype)


def static_shape(ty: relax.Type) -> list[int] | None:
    """The extents; None where ``ty`` is no tensor of which all are known."""
    shape = getattr(ty, "shape", None)
    if not isinstance(shape, relax.ShapeExpr) or not all(isinstance(extent, tirx.IntImm) for extent in shape):
        return None
    return [int(extent) for extent in shape]


def item_bytes(tensor: relax.Expr) -> int:
    """The bytes of one element."""
    return int(tvm.DataType(element_type(tensor)).itemsize)


def bytes_of(ty: relax.Type) -> int:
    """The bytes of a tensor, or of all tensors of a tuple; their extents are known."""
    if isinstance(ty, relax.TupleType):
        return sum(map(bytes_of, ty.fields))
    return math.prod(int(extent) for extent in ty.shape) * int(tvm.DataType(str(ty.dtype.dtype)).itemsize)

"""The largest tensor that makes sense: beyond it, positions in a kernel would overflow."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tvm import relax, tirx
from tvm.ir import Expr

# The address space of a process, and what TVM's schedules count along one axis.
_MOST_ELEMENTS = 1 << 47
_LONGEST_AXIS = (1 << 31) - 1
LIMITS = "an axis has at most 2^31 - 1 elements, a tensor 2^47"


def known_extents(tensor: Expr) -> list[int]:
    """Those of a tensor's extents that are numbers."""
    shape = tensor.ty.shape if isinstance(tensor.ty, relax.TensorType) else None
    extents = shape.values if isinstance(shape, relax.ShapeExpr) else ()
    return [int(extent) for extent in extents if isinstance(extent, tirx.IntImm)]


def is_addressable(extents: Iterable[int]) -> bool:
    """Whether a machine can have so many elements, and a kernel can go through them."""
    extents = list(extents)
    return math.prod(extents) <= _MOST_ELEMENTS and max(extents, default=0) <= _LONGEST_AXIS

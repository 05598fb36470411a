"""Arithmetic of narrow floating-point types: computed in float32, rounded once at the end."""

from __future__ import annotations

from collections.abc import Callable

from tvm.ir import Expr

from .graph_builder import GraphBuilder

_NARROW = ("float16", "bfloat16")


def widened(builder: GraphBuilder, compute: Callable[..., Expr], *tensors: Expr) -> Expr:
    """``compute(*tensors)``, with float16 and bfloat16 operands and results carried as float32 inside."""
    dtype = builder.dtype(tensors[0])
    if dtype not in _NARROW:
        return compute(*tensors)
    wide = [builder.cast(t, "float32") if builder.dtype(t) in _NARROW else t for t in tensors]
    return builder.cast(builder.bound(compute(*wide)), dtype)


def is_float(dtype: str) -> bool:
    """Whether an element type is a floating-point one."""
    return dtype.startswith(("float", "bfloat"))

"""Operators that move elements do so with the bytes that hold narrow types; all others see decoded values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm.ir import Expr

from .narrow_types import stored
from .node import Node
from .values import NarrowTensor, Value, is_narrow

_MOVING = frozenset(
    {
        "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Reshape",
        "ReverseSequence", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


def unwrapped(node: Node) -> Node | None:
    """The node on stored bytes, if it moves elements of a narrow type; None for every other node."""
    if node.op_type not in _MOVING or not any(_is_narrow(value) for value in node.inputs):
        return None
    return node.with_inputs([_stored(value) for value in node.inputs])


def rewrapped(node: Node, results: Sequence[Value]) -> list[Value]:
    """The results of an unwrapped node in the narrow type of its inputs."""
    dtype = next(node.dtype(place) for place, value in enumerate(node.inputs) if _is_narrow(value))
    bound = [node.builder.bound(v) if isinstance(v, Expr) else v for v in results]
    return [NarrowTensor(value, dtype) if isinstance(value, Expr) else value for value in bound]


def _is_narrow(value: Value) -> bool:
    return isinstance(value, NarrowTensor) or (isinstance(value, np.ndarray) and is_narrow(str(value.dtype)))


def _stored(value: Value) -> Value:
    if isinstance(value, NarrowTensor):
        return value.storage
    return stored(value) if isinstance(value, np.ndarray) and _is_narrow(value) else value

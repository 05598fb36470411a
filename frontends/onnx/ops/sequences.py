"""Sequences and optionals. Their structure is known while importing; their tensors are run-time values."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent
from ..node import Node, normalize_axis
from ..registry import converts
from ..values import Sequence, Value


@converts("SequenceConstruct")
def sequence_construct(node: Node) -> Value:
    return Sequence(tuple(node.inputs))


@converts("SequenceEmpty")
def sequence_empty(_: Node) -> Value:
    return Sequence(())


@converts("SequenceLength")
def sequence_length(node: Node) -> Value:
    return np.array(len(node.sequence(0).items), np.int64)


@converts("SequenceAt")
def sequence_at(node: Node) -> Value:
    items = node.sequence(0).items
    return items[_position(node, 1, len(items))]


@converts("SequenceInsert")
def sequence_insert(node: Node) -> Value:
    items = node.sequence(0).items
    place = _position(node, 2, len(items) + 1, len(items)) if node.has(2) else len(items)
    return Sequence((*items[:place], node.value(1), *items[place:]))


@converts("SequenceErase")
def sequence_erase(node: Node) -> Value:
    items = node.sequence(0).items
    place = _position(node, 1, len(items)) if node.has(1) else len(items) - 1
    return Sequence((*items[:place], *items[place + 1 :]))


def _position(node: Node, index: int, count: int, origin: int | None = None) -> int:
    """A position from an input; negative ones count from ``origin``, the sequence's length."""
    place = int(node.constant(index).reshape(-1)[0])
    counted = place + (count if origin is None else origin) if place < 0 else place
    if not 0 <= counted < count:
        raise InvalidModelError(f"position {place} does not exist in the sequence")
    return counted


@converts("ConcatFromSequence")
def concat_from_sequence(node: Node) -> Expr:
    tensors = [node.builder.bound(node.builder.tensor(item)) for item in node.sequence(0).items]
    if not tensors:
        raise InvalidModelError("an empty sequence cannot be concatenated")
    new_axis = bool(node.integer("new_axis", 0))
    rank = len(node.builder.shape(tensors[0])) + new_axis
    axis = normalize_axis(node.integer("axis"), rank)
    if new_axis:
        tensors = [node.emit(relax.op.expand_dims(tensor, axis)) for tensor in tensors]
    return relax.op.concat(tensors, axis)


@converts("SplitToSequence")
def split_to_sequence(node: Node) -> Value:
    shape = node.shape(0)
    axis = node.axis("axis", 0, len(shape))
    sizes, keep = _sizes(node, shape[axis]), bool(node.integer("keepdims", 1)) or node.has(1)
    items: list[Value] = []
    start = 0
    for size in sizes:
        part = node.emit(relax.op.strided_slice(node.tensor(0), [axis], [start], [start + size]))
        items.append(part if keep else node.emit(relax.op.squeeze(part, [axis])))
        start += size
    return Sequence(tuple(items))


def _sizes(node: Node, extent: Extent) -> list[int]:
    if node.has(1):
        split = node.constant(1)
        if split.ndim:
            return [int(size) for size in split]
    if not isinstance(extent, int):
        raise InvalidModelError("the split extent decides the length of a sequence; bind it with shapes")
    size = int(node.constant(1)) if node.has(1) else 1
    if size < 1:
        raise InvalidModelError("a part of a split must have at least one entry")
    return [min(size, extent - start) for start in range(0, extent, size)]


@converts("SequenceMap")
def sequence_map(node: Node) -> list[Value]:
    """The body, converted once for each entry."""
    count = len(node.sequence(0).items)
    rows = [
        node.run_subgraph("body", [_entry(value, position) for value in node.inputs])
        for position in range(count)
    ]
    return [Sequence(tuple(row[place] for row in rows)) for place in range(len(node.outputs))]


def _entry(value: Value, position: int) -> Value:
    return value.items[position] if isinstance(value, Sequence) else value


@converts("Optional")
def optional(node: Node) -> Value:
    return node.value(0)


@converts("OptionalHasElement")
def optional_has_element(node: Node) -> Value:
    return np.array(node.has(0), np.bool_)


@converts("OptionalGetElement")
def optional_get_element(node: Node) -> Value:
    if not node.has(0):
        raise InvalidModelError("the optional is empty")
    return node.value(0)

"""Sequences and optionals. Their structure is known while importing; their tensors are run-time values."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from .. import run_time_sequences
from ..extents import Extent, as_expression
from ..node import Node, normalize_axis
from ..recursive_loop import Results, repeated
from ..registry import converts
from ..tabulate import tabulate
from ..values import RunTimeOptional, RunTimeSequence, Sequence, SymbolicArray, Value, freeze, object_array
from .indexing import slice_of
from .shape import concatenated


@converts("SequenceConstruct")
def sequence_construct(node: Node) -> Value:
    return Sequence(tuple(node.inputs))


@converts("SequenceEmpty")
def sequence_empty(_: Node) -> Value:
    return Sequence(())


@converts("SequenceLength")
def sequence_length(node: Node) -> Value:
    sequence = node.sequence(0)
    if isinstance(sequence, Sequence):
        return np.array(len(sequence.items), np.int64)
    count = run_time_sequences.length(node.builder, sequence)
    return freeze(SymbolicArray(object_array([count]).reshape(()), "int64"))


@converts("SequenceAt")
def sequence_at(node: Node) -> Value:
    sequence = node.sequence(0)
    if isinstance(sequence, Sequence) and isinstance(node.value(1), np.ndarray):
        return sequence.items[_position(node, 1, len(sequence.items))]
    wide = _of_any_length(node, 1)
    last = run_time_sequences.length(node.builder, wide)
    return run_time_sequences.entry(node.builder, wide, _place(node, 1, wide, last), node.outputs[0])


@converts("SequenceInsert")
def sequence_insert(node: Node) -> Value:
    sequence = node.sequence(0)
    if isinstance(sequence, Sequence) and (not node.has(2) or isinstance(node.value(2), np.ndarray)):
        items = sequence.items
        place = _position(node, 2, len(items) + 1, len(items)) if node.has(2) else len(items)
        return Sequence((*items[:place], node.value(1), *items[place:]))
    wide, tensor = _of_any_length(node, 2), node.builder.bound(node.tensor(1))
    places = node.extents.simplify(run_time_sequences.length(node.builder, wide) + 1)
    position = _place(node, 2, wide, places) if node.has(2) else None
    return run_time_sequences.inserted(node.builder, wide, tensor, position)


@converts("SequenceErase")
def sequence_erase(node: Node) -> Value:
    sequence = node.sequence(0)
    if isinstance(sequence, Sequence) and (not node.has(1) or isinstance(node.value(1), np.ndarray)):
        items = sequence.items
        place = _position(node, 1, len(items)) if node.has(1) else len(items) - 1
        return Sequence((*items[:place], *items[place + 1 :]))
    wide = _of_any_length(node, 1)
    count = run_time_sequences.length(node.builder, wide)
    return run_time_sequences.erased(node.builder, wide, _place(node, 1, wide, count), node.outputs[0])


def _position(node: Node, index: int, count: int, origin: int | None = None) -> int:
    """A position from an input; negative ones count from ``origin``, the sequence's length."""
    place = int(node.constant(index).reshape(-1)[0])
    counted = place + (count if origin is None else origin) if place < 0 else place
    if not 0 <= counted < count:
        raise InvalidModelError(f"position {place} does not exist in the sequence")
    return counted


def _of_any_length(node: Node, index: int) -> RunTimeSequence:
    """The sequence as one of unknown length; where it has no such form, input ``index`` must be known."""
    sequence = node.sequence(0)
    wide = run_time_sequences.of_items(node.builder, sequence) if isinstance(sequence, Sequence) else sequence
    if wide is None:
        raise node.static_required(index)
    return wide


def _place(node: Node, index: int, sequence: RunTimeSequence, places: Extent) -> Expr:
    """A run-time position as an int64 scalar counted from the front; the last entry where none is given.

    One that is not below ``places`` ends the run with an error.
    """
    builder = node.builder
    count = as_expression(run_time_sequences.length(builder, sequence))
    given = node.tensor(index) if node.has(index) else builder.constant(-1, "int64")
    flat = builder.reshape(builder.cast(given, "int64"), (1,))

    def counted(position: te.Tensor) -> te.Tensor:
        def element(i: Any) -> Expr:
            place = tirx.Select(position(i) < 0, position(i) + count, position(i))
            return tirx.Select(place < 0, as_expression(places), place)

        return tabulate((1,), element, name="position")

    position = builder.te(counted, flat, name="position")
    (extent,) = builder.read_extents(position, f"{node.outputs[0]}_position")
    builder.require(as_expression(extent) < as_expression(places))
    return builder.reshape(position, ())


@converts("ConcatFromSequence")
def concat_from_sequence(node: Node) -> Expr:
    sequence, new_axis = node.sequence(0), bool(node.integer("new_axis", 0))
    if isinstance(sequence, RunTimeSequence):
        rank = run_time_sequences.rank_of(node.builder, sequence) + new_axis
        axis = normalize_axis(node.integer("axis"), rank)
        return run_time_sequences.concatenated(node.builder, sequence, axis, new_axis, node.outputs[0])
    tensors = [node.builder.bound(node.builder.tensor(item)) for item in sequence.items]
    if not tensors:
        raise InvalidModelError("an empty sequence cannot be concatenated")
    rank = len(node.builder.shape(tensors[0])) + new_axis
    axis = normalize_axis(node.integer("axis"), rank)
    if new_axis:
        tensors = [node.emit(relax.op.expand_dims(tensor, axis)) for tensor in tensors]
    return concatenated(node, tensors, axis)


@converts("SplitToSequence")
def split_to_sequence(node: Node) -> Value:
    shape = node.shape(0)
    axis = node.axis("axis", 0, len(shape))
    sizes, keep = _sizes(node, shape[axis]), bool(node.integer("keepdims", 1)) or node.has(1)
    items: list[Value] = []
    start: Extent = 0
    for size in sizes:
        part = slice_of(node, node.tensor(0), axis, start, size)
        items.append(part if keep else node.emit(relax.op.squeeze(part, [axis])))
        start = node.extents.simplify(start + size)
    return Sequence(tuple(items))


def _sizes(node: Node, extent: Extent) -> list[Extent]:
    if node.has(1) and node.rank(1):
        return node.extent_list(1)
    size = int(node.constant(1).reshape(-1)[0]) if node.has(1) else 1
    if not isinstance(extent, int):
        raise InvalidModelError("the split extent decides the length of a sequence; bind it with shapes")
    if size < 1:
        raise InvalidModelError("a part of a split must have at least one entry")
    return [min(size, extent - start) for start in range(0, extent, size)]


@converts("SequenceMap")
def sequence_map(node: Node) -> list[Value]:
    """The body, converted once for each entry, or once as the body of a loop."""
    sequence = node.sequence(0)
    if isinstance(sequence, RunTimeSequence):
        return _mapped_at_run_time(node, sequence)
    count = len(sequence.items)
    rows = [
        node.run_subgraph("body", [_entry(value, position) for value in node.inputs])
        for position in range(count)
    ]
    return [Sequence(tuple(row[place] for row in rows)) for place in range(len(node.outputs))]


def _entry(value: Value, position: int) -> Value:
    return value.items[position] if isinstance(value, Sequence) else value


def _mapped_at_run_time(node: Node, sequence: RunTimeSequence) -> list[Value]:
    builder = node.builder
    count = SymbolicArray(object_array([run_time_sequences.length(builder, sequence)]), "int64")

    def step(number: Expr, state: list[Value]) -> Results:
        given = [
            run_time_sequences.entry(builder, value, number, f"{node.outputs[0]}_entry")
            if isinstance(value, RunTimeSequence)
            else value
            for value in node.inputs
        ]
        made = node.run_subgraph("body", given)
        return np.array(True), [_appended(node, *pair) for pair in zip(state, made, strict=True)], []

    until = (builder.tensor(freeze(count)), builder.constant(True, "bool"))
    return repeated(node, until, [Sequence(())] * len(node.outputs), step)


def _appended(node: Node, sequence: Value, item: Value) -> Value:
    if isinstance(sequence, Sequence):
        return Sequence((*sequence.items, item))
    assert isinstance(sequence, RunTimeSequence), "the state of a SequenceMap is sequences"
    tensor = node.builder.bound(node.builder.tensor(item))
    return run_time_sequences.inserted(node.builder, sequence, tensor, None)


@converts("Optional")
def optional(node: Node) -> Value:
    return node.value(0)


@converts("OptionalHasElement")
def optional_has_element(node: Node) -> Value:
    value = node.value(0)
    return value.present if isinstance(value, RunTimeOptional) else np.array(node.has(0), np.bool_)


@converts("OptionalGetElement")
def optional_get_element(node: Node) -> Value:
    value = node.value(0)
    if value is None:
        raise InvalidModelError("the optional is empty")
    if not isinstance(value, RunTimeOptional):
        return value
    builder = node.builder
    flag = builder.reshape(builder.cast(value.present, "int64"), (1,))
    (there,) = builder.read_extents(flag, f"{node.outputs[0]}_present")
    builder.require(tirx.EQ(as_expression(there), tirx.IntImm("int64", 1)))
    return value.value

"""Sequences whose length only the run knows: two tensors, as described in ``runtime/structures.py``.

Every operation is a kernel over the elements of all entries, which lie one after another, and the table of
the entries' shapes.
"""

from __future__ import annotations

from collections.abc import Sequence as PySequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ...runtime.errors import InvalidModelError
from .extents import Extent, as_expression
from .graph_builder import GraphBuilder
from .loops import loop, loop_kernel
from .tabulate import tabulate
from .values import RunTimeSequence, Sequence, Value, is_narrow


class EntryMismatchError(InvalidModelError):
    """An entry is of another rank or type than the sequence's others, which only a known sequence allows."""


def of_items(builder: GraphBuilder, sequence: Sequence) -> RunTimeSequence | None:
    """A sequence of known length as one of unknown length; None if its entries differ in rank or type."""
    if not sequence.items or any(_is_structure(item) for item in sequence.items):
        return None
    items = [builder.bound(builder.tensor(item)) for item in sequence.items]
    ranks, dtypes = {len(builder.shape(item)) for item in items}, {builder.dtype(item) for item in items}
    if len(ranks) != 1 or len(dtypes) != 1 or is_narrow(next(iter(dtypes))):
        return None
    empty = of_nothing(builder, ranks.pop(), dtypes.pop())
    for item in items:
        empty = inserted(builder, empty, item, None)
    return empty


def _is_structure(item: Value) -> bool:
    return item is None or isinstance(item, Sequence | RunTimeSequence)


def of_nothing(builder: GraphBuilder, rank: int, dtype: str) -> RunTimeSequence:
    """An empty sequence of entries of a rank and type."""
    elements = builder.constant(np.zeros(0, dtype))
    return RunTimeSequence(elements, builder.constant(np.zeros((0, rank), np.int64)))


def length(builder: GraphBuilder, sequence: RunTimeSequence) -> Extent:
    """The number of entries."""
    return builder.shape(sequence.shapes)[0]


def rank_of(builder: GraphBuilder, sequence: RunTimeSequence) -> int:
    """The rank of the entries."""
    return int(builder.shape(sequence.shapes)[1])


def entry(builder: GraphBuilder, sequence: RunTimeSequence, position: Expr, name: str) -> Expr:
    """The entry at a position, an int64 scalar that counts from the front."""
    rank = rank_of(builder, sequence)
    begin = _start(builder, sequence, position)

    def row(table: te.Tensor, place: te.Tensor) -> te.Tensor:
        return tabulate((rank,), lambda axis: table(place(), axis), name="entry_shape")

    shape = builder.read_extents(builder.te(row, sequence.shapes, position, name="entry_shape"), name)

    def compute(elements: te.Tensor, first: te.Tensor) -> te.Tensor:
        return tabulate(shape, lambda *i: elements(first() + _ravelled(i, shape)), name="entry")

    return builder.te(compute, sequence.elements, begin, name="entry")


def _ravelled(index: PySequence[Any], shape: PySequence[Extent]) -> Any:
    flat: Any = tirx.IntImm("int64", 0)
    for place, extent in zip(index, shape, strict=True):
        flat = flat * as_expression(extent) + place
    return flat


def _sizes(builder: GraphBuilder, sequence: RunTimeSequence) -> Expr:
    """How many elements each entry has: [count]."""
    rank, count = rank_of(builder, sequence), length(builder, sequence)

    def size(table: te.Tensor) -> te.Tensor:
        def element(i: Any) -> Expr:
            product: Any = tirx.IntImm("int64", 1)
            for axis in range(rank):
                product = product * table(i, axis)
            return product

        return tabulate((count,), element, name="sizes")

    return builder.te(size, sequence.shapes, name="sizes")


def _start(builder: GraphBuilder, sequence: RunTimeSequence, position: Expr) -> Expr:
    """Where the elements of the entry at a position begin, an int64 scalar."""

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (sizes, place), (result,) = inputs, outputs
        result[()] = tirx.IntImm("int64", 0)
        with loop(place[()]) as i:
            result[()] = result[()] + sizes[i]

    return loop_kernel(builder, [_sizes(builder, sequence), position], [((), "int64")], statements, "start")[
        0
    ]


def inserted(
    builder: GraphBuilder, sequence: RunTimeSequence, tensor: Expr, position: Expr | None
) -> RunTimeSequence:
    """With one more entry before the one at a position; at the end where there is none."""
    shape = builder.shape(tensor)
    if rank_of(builder, sequence) != len(shape) or builder.dtype(sequence.elements) != builder.dtype(tensor):
        raise EntryMismatchError("the entries of a sequence whose length is data must agree in rank and type")
    flat = builder.reshape(tensor, (builder.extents.product(shape),))
    row = _row(builder, shape)
    if position is None:
        parts = [(sequence.elements, flat), (sequence.shapes, row)]
        return RunTimeSequence(*(builder.emit(relax.op.concat(list(part), 0)) for part in parts))
    begin = _start(builder, sequence, position)
    return RunTimeSequence(
        _spliced(builder, sequence.elements, flat, begin), _spliced(builder, sequence.shapes, row, position)
    )


def _row(builder: GraphBuilder, shape: PySequence[Extent]) -> Expr:
    """A shape as a tensor: [1, rank]."""
    if not shape:
        return builder.constant(np.zeros((1, 0), np.int64))

    def compute() -> te.Tensor:
        def element(_: Any, axis: Any) -> Expr:
            chosen = as_expression(shape[-1])
            for place in range(len(shape) - 2, -1, -1):
                chosen = tirx.Select(axis == place, as_expression(shape[place]), chosen)
            return chosen

        return tabulate((1, len(shape)), element, name="shape_row")

    return builder.te(compute, name="shape_row")


def _spliced(builder: GraphBuilder, rows: Expr, new: Expr, begin: Expr) -> Expr:
    """``new`` put in before row ``begin``."""
    old, more = builder.shape(rows), builder.shape(new)[0]
    extra = as_expression(more)

    def compute(a: te.Tensor, b: te.Tensor, at: te.Tensor) -> te.Tensor:
        def element(i: Any, *rest: Any) -> Expr:
            after = tirx.if_then_else(i < at() + extra, b(i - at(), *rest), a(i - extra, *rest))
            return tirx.if_then_else(i < at(), a(i, *rest), after)

        return tabulate((builder.extents.simplify(old[0] + more), *old[1:]), element, name="splice")

    return builder.te(compute, rows, new, begin, name="splice")


def erased(builder: GraphBuilder, sequence: RunTimeSequence, position: Expr, name: str) -> RunTimeSequence:
    """Without the entry at a position."""
    begin = _start(builder, sequence, position)

    def size(sizes: te.Tensor, place: te.Tensor) -> te.Tensor:
        return tabulate((1,), lambda _: sizes(place()), name="erased")

    gone = builder.te(size, _sizes(builder, sequence), position, name="erased")
    (lost,) = builder.read_extents(gone, f"{name}_erased")
    return RunTimeSequence(
        _without(builder, sequence.elements, begin, lost), _without(builder, sequence.shapes, position, 1)
    )


def _without(builder: GraphBuilder, rows: Expr, begin: Expr, count: Extent) -> Expr:
    shape = builder.shape(rows)
    rest = builder.extents.maximum(builder.extents.simplify(shape[0] - count), 0)

    def compute(a: te.Tensor, at: te.Tensor) -> te.Tensor:
        def element(i: Any, *inner: Any) -> Expr:
            return a(tirx.Select(i < at(), i, i + as_expression(count)), *inner)

        return tabulate((rest, *shape[1:]), element, name="erase")

    return builder.te(compute, rows, begin, name="erase")


def concatenated(
    builder: GraphBuilder, sequence: RunTimeSequence, axis: int, new_axis: bool, name: str
) -> Expr:
    """All entries along an axis. Their other extents must agree, and there must be an entry."""
    rank, count = rank_of(builder, sequence), length(builder, sequence)
    builder.require(as_expression(count) >= tirx.IntImm("int64", 1))
    zero = builder.constant(0, "int64")
    first = entry(builder, sequence, zero, name)
    rest = [e for a, e in enumerate(builder.shape(first)) if new_axis or a != axis]
    if new_axis:
        total: Extent = count
    else:
        total = _total_along(builder, sequence, axis, name)
    shape = [*rest[:axis], total, *rest[axis:]]
    before, after = builder.extents.product(rest[:axis]), builder.extents.product(rest[axis:])

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (elements, table), (result, state) = inputs, outputs
        state[0], state[1] = tirx.IntImm("int64", 0), tirx.IntImm("int64", 0)
        with loop(count) as i:
            extent = tirx.IntImm("int64", 1) if new_axis else table[i, axis]
            with loop(before) as outer, loop(extent) as along, loop(after) as inner:
                source = state[0] + (outer * extent + along) * as_expression(after) + inner
                target = (outer * as_expression(total) + state[1] + along) * as_expression(after) + inner
                result[target] = elements[source]
            state[0] = state[0] + as_expression(before) * extent * as_expression(after)
            state[1] = state[1] + extent

    flat = builder.extents.product([before, total, after])
    outputs = [((flat,), builder.dtype(sequence.elements)), ((2,), "int64")]
    tensors = [sequence.elements, sequence.shapes]
    assert 0 <= axis <= rank, "axes are counted before"
    return builder.reshape(loop_kernel(builder, tensors, outputs, statements, "concatenate")[0], shape)


def _total_along(builder: GraphBuilder, sequence: RunTimeSequence, axis: int, name: str) -> Extent:
    count = as_expression(length(builder, sequence))

    def compute(table: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, count), name="k")
        return tabulate((1,), lambda _: te.sum(table(k, axis), axis=k), name="total")

    return builder.read_extents(builder.te(compute, sequence.shapes, name="total"), f"{name}_total")[0]

"""A stable merge sort inside of a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from .extents import Extent, as_expression
from .graph_builder import GraphBuilder
from .loops import loop_kernel

REGISTERS = 3
"""Elements of an int64 buffer that one sort keeps its state in."""

Before = Callable[[Any, Any], Expr]
"""Whether the entry at the first position must come before the one at the second; may emit statements."""


def emit_merge_sort(order: Any, spare: Any, state: Any, line: Any, count: Extent, before: Before) -> None:
    """Emits statements that fill ``order[line, :]`` with the positions 0 ... count - 1, sorted.

    Args:
        order, spare: int64 buffers [lines, count].
        state: int64 buffer [lines, REGISTERS].
    """
    size = as_expression(count)
    one = tirx.IntImm("int64", 1)
    with T.serial(0, size) as place:
        order[line, place] = place
    state[line, 0] = one
    with T.While(state[line, 0] < size):
        width = state[line, 0]
        with T.serial(0, tirx.floordiv(size + 2 * width - 1, 2 * width)) as pair:
            start = pair * 2 * width
            state[line, 1] = start
            state[line, 2] = tirx.min(start + width, size)
            with T.serial(0, tirx.min(2 * width, size - start)) as step:
                _merge_one(order, spare, state, line, size, (start, step), before)
        with T.serial(0, size) as place:
            order[line, place] = spare[line, place]
        state[line, 0] = width * 2


def _merge_one(
    order: Any, spare: Any, state: Any, line: Any, size: Expr, place: tuple[Any, Any], before: Before
) -> None:
    """Takes the next entry from the left or from the right run."""
    start, step = place
    width, left, right = (state[line, register] for register in range(REGISTERS))
    middle, end = tirx.min(start + width, size), tirx.min(start + 2 * width, size)
    last = size - 1
    mine, theirs = order[line, tirx.min(left, last)], order[line, tirx.min(right, last)]
    # Equal entries are taken from the left, which keeps their order.
    ahead = before(theirs, mine)
    take_right = tirx.all(right < end, tirx.any(left >= middle, ahead))
    with T.If(take_right):
        with T.Then():
            spare[line, start + step] = theirs
            state[line, 2] = right + 1
        with T.Else():
            spare[line, start + step] = mine
            state[line, 1] = left + 1


def sorted_lines(builder: GraphBuilder, tensor: Expr, shape: Sequence[Extent], descending: bool) -> Expr:
    """The positions that sort each line of [lines, count]; ties keep their order, NaN is largest."""
    lines, count = shape
    floating = builder.dtype(tensor).startswith("float")

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (data,), (order, spare, state) = inputs, outputs
        with T.parallel(0, as_expression(lines)) as line:

            def before(a: Any, b: Any) -> Expr:
                x, y = data[line, a], data[line, b]
                ahead = x > y if descending else x < y
                if not floating:
                    return ahead
                first, second = (x, y) if descending else (y, x)
                return tirx.any(ahead, tirx.all(tirx.isnan(first), tirx.Not(tirx.isnan(second))))

            emit_merge_sort(order, spare, state, line, count, before)

    wide = builder.cast(tensor, "float32") if builder.dtype(tensor) in ("float16", "bfloat16") else tensor
    outputs = [(shape, "int64"), (shape, "int64"), ((lines, REGISTERS), "int64")]
    return loop_kernel(builder, [wide], outputs, statements, "sort")[0]

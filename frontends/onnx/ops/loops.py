"""Loop and Scan: unrolled where the number of steps is known, else a function that calls itself."""

from __future__ import annotations

from collections.abc import Sequence as PySequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node, normalize_axis
from ..recursive_loop import Results, recursive_loop, repeated
from ..registry import converts
from ..run_time_sequences import EntryMismatchError
from ..tabulate import tabulate
from ..values import (
    RunTimeOptional,
    RunTimeSequence,
    SymbolicArray,
    Value,
    dtype_name,
    numpy_dtype,
    object_array,
)

MAX_UNROLLED = 4096
"""Longer loops would make a program that no one wants to compile."""


@converts("Loop")
def loop(node: Node) -> list[Value]:
    try:
        return _loop(node)
    except EntryMismatchError:
        kinds = (RunTimeSequence, RunTimeOptional)
        found = [index for index, value in enumerate(node.inputs) if isinstance(value, kinds)]
        if not found:
            raise
        raise node.static_required(found[0]) from None


def _loop(node: Node) -> list[Value]:
    trip, condition = node.value(0), node.value(1)
    trip_known = trip is None or isinstance(trip, np.ndarray)
    if not trip_known or not (condition is None or isinstance(condition, np.ndarray)):
        return recursive_loop(node)
    limit = None if trip is None else int(np.asarray(trip).reshape(-1)[0])
    unrolled = _unroll(node, limit, condition is None or bool(np.asarray(condition).reshape(-1)[0]))
    return recursive_loop(node) if unrolled is None else unrolled


def _unroll(node: Node, limit: int | None, running: bool) -> list[Value] | None:
    """The results, or None where only data can tell when the loop ends."""
    state = list(node.inputs[2:])
    collected: list[list[Value]] = [[] for _ in range(len(node.outputs) - len(state))]
    step = 0
    while running and (limit is None or step < limit):
        if step >= MAX_UNROLLED:
            raise InvalidModelError(f"a loop of more than {MAX_UNROLLED} known steps is not supported")
        inputs = [np.array(step, np.int64), np.array(True), *state]
        results = node.run_subgraph("body", inputs[: len(node.subgraph("body").input)])
        if not isinstance(results[0], np.ndarray):
            return None
        running = bool(results[0].reshape(-1)[0])
        state = results[1 : 1 + len(state)]
        for column, value in zip(collected, results[1 + len(state) :], strict=False):
            column.append(value)
        step += 1
    return [*state, *(_stacked(node, place, column) for place, column in enumerate(collected))]


def _stacked(node: Node, place: int, column: PySequence[Value], axis: int = 0) -> Value:
    """The values of all steps along a new axis."""
    if not column:
        return _nothing(node, place)
    if all(isinstance(value, np.ndarray) for value in column):
        return np.stack([np.asarray(value) for value in column], axis)
    parts = [
        node.emit(relax.op.expand_dims(node.builder.bound(node.builder.tensor(v)), axis)) for v in column
    ]
    return node.emit(relax.op.concat(parts, axis)) if len(parts) > 1 else parts[0]


def _nothing(node: Node, place: int) -> Value:
    """A scan output of no steps, in the type that the body declares."""
    body = node.subgraph("body")
    collected = len(node.outputs) - (len(node.inputs) - 2)
    declared = body.output[len(body.output) - collected + place].type.tensor_type
    extents = [dim.dim_value for dim in declared.shape.dim]
    return np.zeros((0, *extents), numpy_dtype(dtype_name(declared.elem_type)))


@dataclass(frozen=True)
class _Scan:
    """What a Scan's attributes say.

    Attributes:
        state: the values that go from step to step, initially.
        sequences: the tensors that are taken apart.
        input_axes, output_axes: along which axis.
        input_backward, output_backward: whether from the end.
    """

    state: list[Value]
    sequences: list[Value]
    input_axes: list[int]
    output_axes: list[int]
    input_backward: list[bool]
    output_backward: list[bool]


@converts("Scan", since=8)
def scan_batches(node: Node) -> list[Value]:
    """Opset 8 has a batch axis, and each entry of the batch is a scan of its own."""
    if node.has(0):
        raise InvalidModelError("sequence_lens of Scan in opset 8 is not supported")
    batch = node.shape(1)[0]
    if not isinstance(batch, int):
        raise InvalidModelError("the batch of Scan in opset 8 must be known; bind it with shapes")
    count = node.integer("num_scan_inputs")
    backward = [bool(d) for d in node.integers("directions", [0] * count)]
    rows = []
    for entry in range(batch):
        values: list[Value] = [_element(node, value, 0, entry) for value in node.inputs[1:]]
        split = len(values) - count
        outputs = len(node.outputs) - split
        scan = _Scan(values[:split], values[split:], [0] * count, [0] * outputs, backward, [False] * outputs)
        rows.append(_scanned(node, scan))
    return [_stacked(node, place, [row[place] for row in rows]) for place in range(len(node.outputs))]


@converts("Scan", since=9)
def scan(node: Node) -> list[Value]:
    count = node.integer("num_scan_inputs")
    split = len(node.inputs) - count
    outputs = len(node.subgraph("body").output) - split
    inputs = list(node.inputs)
    ranks = [node.rank(split + place) for place in range(count)]
    axes = node.integers("scan_input_axes", [0] * count)
    plan = _Scan(
        inputs[:split],
        inputs[split:],
        [normalize_axis(axis, rank) for axis, rank in zip(axes, ranks, strict=True)],
        list(node.integers("scan_output_axes", [0] * outputs)),
        [bool(d) for d in node.integers("scan_input_directions", [0] * count)],
        [bool(d) for d in node.integers("scan_output_directions", [0] * outputs)],
    )
    return _scanned(node, plan)


def _scanned(node: Node, plan: _Scan) -> list[Value]:
    steps = _steps(node, plan)
    if not isinstance(steps, int):
        return _scanned_at_run_time(node, plan, steps)
    if steps > MAX_UNROLLED:
        raise InvalidModelError(f"a scan of more than {MAX_UNROLLED} steps is not supported")
    state = list(plan.state)
    columns: list[list[Value]] = [[] for _ in plan.output_axes]
    for step in range(steps):
        entries = [
            _element(node, sequence, axis, steps - 1 - step if backward else step)
            for sequence, axis, backward in zip(
                plan.sequences, plan.input_axes, plan.input_backward, strict=True
            )
        ]
        results = node.run_subgraph("body", [*state, *entries])
        state = results[: len(state)]
        for column, value in zip(columns, results[len(state) :], strict=True):
            column.append(value)
    ordered = [
        column[::-1] if backward else column
        for column, backward in zip(columns, plan.output_backward, strict=True)
    ]
    return [
        *state,
        *(
            _stacked(node, place, column, axis)
            for place, (column, axis) in enumerate(zip(ordered, plan.output_axes, strict=True))
        ),
    ]


def _scanned_at_run_time(node: Node, plan: _Scan, steps: Extent) -> list[Value]:
    builder = node.builder
    count = builder.tensor(SymbolicArray(object_array([steps]), "int64"))
    sequences = [builder.bound(builder.tensor(value)) for value in plan.sequences]

    def step(number: Expr, state: list[Value]) -> Results:
        entries: list[Value] = [
            _entry_at(node, sequence, axis, number, steps if backward else None)
            for sequence, axis, backward in zip(sequences, plan.input_axes, plan.input_backward, strict=True)
        ]
        results = node.run_subgraph("body", [*state, *entries])
        return np.array(True), results[: len(state)], results[len(state) :]

    until = (count, builder.constant(True, "bool"))
    results = repeated(node, until, list(plan.state), step)
    collected = [builder.bound(builder.tensor(value)) for value in results[len(plan.state) :]]
    # A step adds an entry; that there are as many entries as steps is known here only.
    whole = [builder.cast_shape(value, [steps, *builder.shape(value)[1:]]) for value in collected]
    placed = zip(whole, plan.output_axes, plan.output_backward, strict=True)
    return [*results[: len(plan.state)], *(_placed(node, *entry) for entry in placed)]


def _entry_at(node: Node, sequence: Expr, axis: int, number: Expr, mirrored: Extent | None) -> Expr:
    """The entry of a step along an axis, which disappears; counted from the end of so many steps."""
    shape = node.builder.shape(sequence)

    def compute(data: te.Tensor, place: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            at = place() if mirrored is None else as_expression(mirrored) - 1 - place()
            return data(*i[:axis], at, *i[axis:])

        return tabulate([*shape[:axis], *shape[axis + 1 :]], element, name="scan_entry")

    return node.te(compute, sequence, number, name="scan_entry")


def _placed(node: Node, entries: Expr, axis: int, backward: bool) -> Expr:
    """What was collected along the first axis, along another one and perhaps from the end."""
    rank = len(node.builder.shape(entries))
    place = normalize_axis(axis, rank)
    if backward:
        entries = node.emit(relax.op.flip(entries, 0))
    return node.emit(relax.op.permute_dims(entries, [*range(1, place + 1), 0, *range(place + 1, rank)]))


def _steps(node: Node, plan: _Scan) -> Extent:
    value, axis = plan.sequences[0], plan.input_axes[0]
    return value.shape[axis] if isinstance(value, np.ndarray) else _shape(node, value)[axis]


def _shape(node: Node, value: Value) -> tuple[Extent, ...]:
    return node.builder.shape(node.builder.bound(node.builder.tensor(value)))


def _element(node: Node, value: Value, axis: int, position: int) -> Value:
    """One entry along an axis, which disappears."""
    if value is None or isinstance(value, np.ndarray):
        return None if value is None else np.take(value, position, axis)
    tensor: Expr = node.builder.bound(node.builder.tensor(value))
    part = node.emit(relax.op.strided_slice(tensor, [axis], [position], [position + 1]))
    return node.emit(relax.op.squeeze(part, [axis]))

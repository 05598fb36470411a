"""Operators whose result is as long as their data says.

A kernel finds the positions and counts them; the count becomes a new symbolic dimension, and a second kernel
picks as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from ..extents import Extent
from ..loops import loop, loop_kernel, unravelled, when
from ..merge_sort import REGISTERS, emit_merge_sort
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import tabulate


def _counted(node: Node, count: Expr) -> Extent:
    return node.builder.read_extents(count, node.outputs[0] or "selected")[0]


@converts("NonZero")
def non_zero(node: Node) -> Expr:
    """Positions of the elements other than zero, in row-major order: [rank, count]."""
    shape = node.shape(0)
    total = node.extents.product(shape)
    zero = tirx.const(0, "uint8" if node.dtype(0) == "bool" else node.dtype(0))

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (data,), (found, count) = inputs, outputs
        count[0] = tirx.IntImm("int64", 0)
        with loop(total) as flat, when(data[unravelled(flat, shape)] != zero):
            found[count[0]] = flat
            count[0] = count[0] + 1

    outputs = [((total,), "int64"), ((1,), "int64")]
    found, count = loop_kernel(node.builder, [node.tensor(0)], outputs, statements, "find_nonzero")

    def compute(flat: te.Tensor) -> te.Tensor:
        def element(axis: Any, place: Any) -> Expr:
            chosen = tirx.IntImm("int64", 0)
            for number, position in enumerate(unravelled(flat(place), shape)):
                chosen = tirx.Select(axis == number, position, chosen)
            return chosen

        return tabulate((len(shape), _counted(node, count)), element, name="nonzero")

    return node.te(compute, found, name="nonzero")


@converts("Compress")
def compress(node: Node) -> Expr:
    """The entries along an axis (or the elements, flattened) whose condition holds."""
    data, axis = node.builder.bound(node.tensor(0)), 0
    if node.has_attribute("axis"):
        axis = normalize_axis(node.integer("axis"), node.rank(0))
    else:
        data = node.builder.reshape(data, [node.extents.product(node.shape(0))])
    shape = list(node.builder.shape(data))
    limit = node.extents.minimum(node.shape(1)[0], shape[axis])

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (condition,), (found, count) = inputs, outputs
        count[0] = tirx.IntImm("int64", 0)
        with loop(limit) as place, when(condition[place] != tirx.const(0, "uint8")):
            found[count[0]] = place
            count[0] = count[0] + 1

    outputs = [((shape[axis],), "int64"), ((1,), "int64")]
    found, count = loop_kernel(node.builder, [node.tensor(1)], outputs, statements, "find_selected")
    return _entries(node, data, axis, found, _counted(node, count))


def _entries(node: Node, data: Expr, axis: int, places: Expr, count: Extent) -> Expr:
    """The entries of ``data`` along an axis at the first ``count`` of ``places``."""
    shape = list(node.builder.shape(data))
    shape[axis] = count

    def compute(x: te.Tensor, chosen: te.Tensor) -> te.Tensor:
        return tabulate(shape, lambda *i: x(*i[:axis], chosen(i[axis]), *i[axis + 1 :]), name="pick")

    return node.te(compute, data, places, name="pick")


def _prefix(node: Node, vector: Expr, count: Extent) -> Expr:
    """The first ``count`` elements."""
    return node.te(lambda v: tabulate((count,), lambda i: v(i), name="prefix"), vector, name="prefix")


@converts("Unique")
def unique(node: Node) -> list[Expr]:
    """Distinct entries along an axis, or distinct elements; with first positions, inverse and counts."""
    data, axis = node.builder.bound(node.tensor(0)), 0
    if node.has_attribute("axis"):
        axis = normalize_axis(node.integer("axis"), node.rank(0))
    else:
        data = node.builder.reshape(data, [node.extents.product(node.shape(0))])
    shape = node.builder.shape(data)
    rest = [place for place in range(len(shape)) if place != axis]
    front = node.emit(relax.op.permute_dims(data, [axis, *rest])) if axis else data
    entries, size = shape[axis], node.extents.product(shape[place] for place in rest)
    rows = node.builder.reshape(front, [entries, size])
    groups = _Groups(node, rows, entries, size)
    first, inverse, amounts, number = groups.found(bool(node.integer("sorted", 1)))
    count = _counted(node, number)
    return [
        _entries(node, data, axis, first, count),
        _prefix(node, first, count),
        inverse,
        _prefix(node, amounts, count),
    ]


@dataclass(frozen=True)
class _Groups:
    """Equal rows of [entries, size]."""

    node: Node
    rows: Expr
    entries: Extent
    size: Extent

    def found(self, ordered: bool) -> list[Expr]:
        """First position and number of each group, the group of each row, and how many groups there are.

        Groups come in the order of their rows, or of their first positions.
        """
        vector = ((self.entries,), "int64")
        matrix = ((1, self.entries), "int64")
        # What callers use, then scratch memory: the order, its spare, registers, the groups' new numbers.
        outputs = [vector, vector, vector, ((1,), "int64"), matrix, matrix]
        outputs += [((1, REGISTERS), "int64"), ((3,), "int64"), vector, vector]

        def statements(inputs: list[Any], results: list[Any]) -> None:
            self._sort(inputs[0], results)
            self._group(inputs[0], results)
            if not ordered:
                self._renumber(results)

        return loop_kernel(self.node.builder, [self.rows], outputs, statements, "unique")[:4]

    def _compare(self, data: Any, result: Any, a: Any, b: Any) -> None:
        """result[0] becomes -1, 0 or 1."""
        result[0] = tirx.IntImm("int64", 0)
        with loop(self.size) as place, when(result[0] == 0):
            x, y = data[a, place], data[b, place]
            one, minus, zero = (tirx.IntImm("int64", v) for v in (1, -1, 0))
            result[0] = tirx.Select(x < y, minus, tirx.Select(x > y, one, zero))

    def _sort(self, data: Any, results: list[Any]) -> None:
        order, spare, state, comparison = results[4:8]

        def before(a: Any, b: Any) -> Expr:
            self._compare(data, comparison, a, b)
            return comparison[0] < 0

        emit_merge_sort(order, spare, state, 0, self.entries, before)

    def _group(self, data: Any, results: list[Any]) -> None:
        first, inverse, amounts, number, order = results[:5]
        comparison = results[7]
        number[0] = tirx.IntImm("int64", 0)
        with loop(self.entries) as place:
            entry = order[0, place]
            comparison[0] = tirx.IntImm("int64", 1)
            with when(place > 0):
                self._compare(data, comparison, order[0, tirx.max(place - 1, 0)], entry)
            with when(comparison[0] != 0):
                first[number[0]] = entry
                amounts[number[0]] = tirx.IntImm("int64", 0)
                number[0] = number[0] + 1
            inverse[entry] = number[0] - 1
            amounts[number[0] - 1] = amounts[number[0] - 1] + 1

    def _renumber(self, results: list[Any]) -> None:
        first, inverse, amounts, _ = results[:4]
        comparison, numbers, kept = results[7:10]
        comparison[0] = tirx.IntImm("int64", 0)
        spare = results[5]
        with loop(self.entries) as entry, when(first[inverse[entry]] == entry):
            numbers[inverse[entry]] = comparison[0]
            kept[comparison[0]] = entry
            spare[0, comparison[0]] = amounts[inverse[entry]]
            comparison[0] = comparison[0] + 1
        with loop(self.entries) as entry:
            inverse[entry] = numbers[inverse[entry]]
        with T.serial(0, comparison[0]) as group:
            first[group] = kept[group]
            amounts[group] = spare[0, group]


@converts("NonMaxSuppression")
def non_max_suppression(node: Node) -> Expr:
    """Boxes that overlap no better one of their class: rows of batch, class and box."""
    (batch, boxes, _), classes = node.shape(0), node.shape(1)[1]
    total = node.extents.product([batch, classes, boxes])
    plan = _Suppression(node, batch, classes, boxes)
    outputs = [((total, 3), "int64"), ((1,), "int64"), ((1, boxes), "int64"), ((1, boxes), "int64")]
    outputs += [((1, REGISTERS), "int64"), ((3,), "int64")]
    tensors = [node.tensor(0), node.tensor(1), *plan.parameters()]
    found, count = loop_kernel(node.builder, tensors, outputs, plan.statements, "suppress_boxes")[:2]
    return _entries(node, found, 0, plan.every(total), _counted(node, count))


@dataclass(frozen=True)
class _Suppression:
    """The kernel of NonMaxSuppression."""

    node: Node
    batch: Extent
    classes: Extent
    boxes: Extent

    def every(self, total: Extent) -> Expr:
        """0, 1, ... total - 1."""
        return self.node.te(lambda: tabulate((total,), lambda i: i, name="every"), name="every")

    def parameters(self) -> list[Expr]:
        """Boxes a class, overlap and score thresholds, as scalars; what is absent lets everything through."""
        builder = self.node.builder
        limits = [(2, "int64", 0), (3, "float32", 0.0), (4, "float32", -3.4028234663852886e38)]
        return [
            builder.reshape(builder.cast(self.node.tensor(index), dtype), ())
            if self.node.has(index)
            else builder.constant(default, dtype)
            for index, dtype, default in limits
        ]

    def statements(self, inputs: list[Any], outputs: list[Any]) -> None:
        corners, scores, limit, overlap, threshold = inputs
        found, count, order, spare, state, registers = outputs
        count[0] = tirx.IntImm("int64", 0)
        with loop(self.batch) as b, loop(self.classes) as c:
            emit_merge_sort(
                order, spare, state, 0, self.boxes, lambda x, y: scores[b, c, x] > scores[b, c, y]
            )
            registers[0] = count[0]
            with loop(self.boxes) as place:
                box = order[0, place]
                wanted = tirx.all(count[0] - registers[0] < limit[()], scores[b, c, box] > threshold[()])
                registers[1] = wanted.astype("int64")
                with when(registers[1] != 0), T.serial(0, count[0] - registers[0]) as other:
                    rival = found[registers[0] + other, 2]
                    with when(self._overlap(corners, b, box, rival) > overlap[()]):
                        registers[1] = tirx.IntImm("int64", 0)
                with when(registers[1] != 0):
                    for column, value in enumerate((b, c, box)):
                        found[count[0], column] = value
                    count[0] = count[0] + 1

    def _overlap(self, corners: Any, batch: Any, a: Any, b: Any) -> Expr:
        """Intersection over union of two boxes."""
        first, second = (self._sides(corners, batch, box) for box in (a, b))
        zero = tirx.const(0, "float32")
        common = tirx.const(1, "float32")
        for (low_a, high_a), (low_b, high_b) in zip(first, second, strict=True):
            common = common * tirx.max(tirx.min(high_a, high_b) - tirx.max(low_a, low_b), zero)
        areas = [(p[0][1] - p[0][0]) * (p[1][1] - p[1][0]) for p in (first, second)]
        union = areas[0] + areas[1] - common
        return tirx.Select(union > zero, common / union, zero)

    def _sides(self, corners: Any, batch: Any, box: Any) -> list[tuple[Any, Any]]:
        """(low, high) on both axes."""
        values = [corners[batch, box, place] for place in range(4)]
        if self.node.integer("center_point_box", 0):
            half = tirx.const(0.5, "float32")
            return [(values[p] - values[p + 2] * half, values[p] + values[p + 2] * half) for p in (0, 1)]
        return [(tirx.min(values[p], values[p + 2]), tirx.max(values[p], values[p + 2])) for p in (0, 1)]

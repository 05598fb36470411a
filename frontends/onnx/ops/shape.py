"""Operators that rearrange a tensor's extents: elements keep their order, or are moved in blocks."""

from __future__ import annotations

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import pick, tabulate
from ..values import SymbolicArray, Value, freeze, object_array, symbolic


@converts("Shape")
def shape_of(node: Node) -> Value:
    shape = node.shape(0)
    rank = len(shape)
    start, end = node.integer("start", 0), node.integer("end", rank)
    start, end = (min(max(place + rank if place < 0 else place, 0), rank) for place in (start, end))
    return symbolic(shape[start:end])


@converts("Size")
def size(node: Node) -> Value:
    return freeze(SymbolicArray(object_array([node.extents.product(node.shape(0))]).reshape(()), "int64"))


@converts("Reshape")
def reshape(node: Node) -> Expr:
    source = node.shape(0)
    if node.has(1) and not node.is_shape_like(1):
        return _reshape_to_data(node, source)
    target: list[Extent] = (
        list(node.integers("shape")) if node.has_attribute("shape") else node.extent_list(1)
    )
    if not node.integer("allowzero", 0):
        target = [
            source[axis] if extent == 0 and _known(extent) else extent for axis, extent in enumerate(target)
        ]
    if any(_known(extent) and extent == -1 for extent in target):
        position = next(i for i, extent in enumerate(target) if _known(extent) and extent == -1)
        rest = target[:position] + target[position + 1 :]
        target[position] = _inferred(node, source, rest)
    return _checked_reshape(node, source, target)


def _reshape_to_data(node: Node, source: tuple[Extent, ...]) -> Expr:
    """A run-time shape: a kernel resolves 0 and -1, its result names new dimensions."""
    rank = node.shape(1)[0]
    if not isinstance(rank, int):
        raise node.static_required(1)
    copies_zero = not node.integer("allowzero", 0)
    total = as_expression(node.extents.product(source))

    def resolve(wanted: te.Tensor) -> te.Tensor:
        zero, one = tirx.IntImm("int64", 0), tirx.IntImm("int64", 1)
        plain = [wanted(i) for i in range(rank)]
        if copies_zero:
            plain = [
                tirx.Select(e == zero, as_expression(source[i]) if i < len(source) else zero, e)
                for i, e in enumerate(plain)
            ]
        known = one
        for extent in plain:
            known = known * tirx.Select(extent < zero, one, extent)
        rest = tirx.truncdiv(total, tirx.max(known, one))
        filled = [tirx.Select(extent < zero, rest, extent) for extent in plain]
        return tabulate((rank,), lambda i: pick(i, filled), name="reshape_target")

    if rank == 0:
        return _checked_reshape(node, source, [])
    extents = node.te(resolve, node.builder.cast(node.tensor(1), "int64"), name="reshape_target")
    return _checked_reshape(node, source, node.builder.read_extents(extents, node.outputs[0]))


def _known(extent: Extent) -> bool:
    return isinstance(extent, int)


def _inferred(node: Node, source: tuple[Extent, ...], rest: list[Extent]) -> Extent:
    """The extent that makes up for the others."""
    source_rest, target_rest = _without_common(node, list(source), rest)
    divisor = node.extents.product(target_rest)
    if divisor == 0:
        return 0
    return node.extents.floor_divide(node.extents.product(source_rest), divisor)


def _without_common(
    node: Node, source: list[Extent], target: list[Extent]
) -> tuple[list[Extent], list[Extent]]:
    """Both lists without the extents that occur in either, so that quotients stay simple."""
    left = list(target)
    kept = []
    for extent in source:
        match = next((i for i, e in enumerate(left) if extent != 0 and node.extents.equal(e, extent)), None)
        if match is None:
            kept.append(extent)
        else:
            del left[match]
    return kept, left


def _checked_reshape(node: Node, source: tuple[Extent, ...], target: list[Extent]) -> Expr:
    product = node.extents.product
    before, after = product(source), product(target)
    decided = node.extents.decide_equal(before, after)
    if decided is False:
        raise InvalidModelError(f"{before} elements cannot be reshaped to {after}")
    tensor = node.tensor(0)
    if decided is None:
        tensor = _assume_count(node, tensor, source, target)
    return node.builder.reshape(tensor, target)


def _assume_count(node: Node, tensor: Expr, source: tuple[Extent, ...], target: list[Extent]) -> Expr:
    """States, checked at run time, that the element counts agree."""
    product = node.extents.product
    rest_source, rest_target = _without_common(node, list(source), target)
    if len(rest_source) == 1 and isinstance(wanted := product(rest_target), int):
        # One dimension is left over, so its extent follows.
        shape = list(source)
        shape[next(i for i, e in enumerate(shape) if e is rest_source[0])] = wanted
        return node.builder.cast_shape(tensor, shape)
    flat = node.emit(relax.op.flatten(tensor))
    return node.builder.cast_shape(flat, [product(target)])


@converts("Flatten")
def flatten(node: Node) -> Expr:
    shape = node.shape(0)
    axis = node.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return node.builder.reshape(
        node.tensor(0), (node.extents.product(shape[:axis]), node.extents.product(shape[axis:]))
    )


def axes_of(node: Node, index: int = 1) -> list[int] | None:
    """Axes from the attribute (older opsets) or from an input; None if absent."""
    if node.has_attribute("axes"):
        return list(node.integers("axes"))
    if node.has(index) and node.shape(index) == (0,):
        return []
    return [int(axis) for axis in node.constant(index).reshape(-1)] if node.has(index) else None


@converts("Squeeze")
def squeeze(node: Node) -> Expr:
    shape, axes = node.shape(0), axes_of(node)
    if axes is None:
        axes = [axis for axis, extent in enumerate(shape) if extent == 1 and _known(extent)]
    dropped = {normalize_axis(axis, len(shape)) for axis in axes}
    stated = [1 if axis in dropped else extent for axis, extent in enumerate(shape)]
    for axis in dropped:
        if node.extents.decide_equal(shape[axis], 1) is False:
            raise InvalidModelError(f"axis {axis} has extent {shape[axis]} and cannot be squeezed")
    tensor = node.builder.cast_shape(node.tensor(0), stated)
    return node.builder.reshape(tensor, [e for axis, e in enumerate(stated) if axis not in dropped])


@converts("Unsqueeze")
def unsqueeze(node: Node) -> Expr:
    shape, axes = node.shape(0), axes_of(node) or []
    rank = len(shape) + len(axes)
    places = {normalize_axis(axis, rank) for axis in axes}
    if len(places) != len(axes):
        raise InvalidModelError("axes occur twice")
    extents = iter(shape)
    return node.builder.reshape(
        node.tensor(0), [1 if axis in places else next(extents) for axis in range(rank)]
    )


@converts("Transpose")
def transpose(node: Node) -> Expr:
    rank = node.rank(0)
    perm = node.optional_integers("perm") or tuple(reversed(range(rank)))
    value = node.value(0)
    if isinstance(value, np.ndarray):
        return node.builder.constant(np.ascontiguousarray(np.transpose(value, perm)))
    return relax.op.permute_dims(node.tensor(0), list(perm)) if rank else node.tensor(0)


def _extent_along(node: Node, tensor: Expr, axis: int) -> int | None:
    """A known extent, else None."""
    extent = node.builder.shape(tensor)[axis]
    return extent if isinstance(extent, int) else None


@converts("Concat")
def concat(node: Node) -> Expr:
    return concatenated(node, node.tensors(), normalize_axis(node.integer("axis", 1), node.rank(0)))


def concatenated(node: Node, tensors: list[Expr], axis: int) -> Expr:
    """The tensors one behind the other; that their other extents agree is checked, at run time if need be.

    Raises:
        InvalidModelError: they differ in rank, or in an extent that is known.
    """
    # Kernels over nothing are avoided: what has no entries adds none.
    tensors = [t for t in tensors if _extent_along(node, t, axis) != 0] or tensors[:1]
    shapes = [list(node.builder.shape(tensor)) for tensor in tensors]
    if len({len(shape) for shape in shapes}) > 1:
        raise InvalidModelError("the inputs differ in rank")
    for other in range(len(shapes[0])):
        if other == axis:
            continue
        common = shapes[0][other]
        for shape in shapes[1:]:
            common = node.builder.unify(common, shape[other])
        for shape in shapes:
            shape[other] = common
    stated = [node.builder.cast_shape(t, s) for t, s in zip(tensors, shapes, strict=True)]
    return relax.op.concat(stated, axis) if len(stated) > 1 else stated[0]


@converts("Expand")
def expand(node: Node) -> Expr:
    tensor, target = node.tensor(0), node.extent_list(1)
    shape = node.builder.broadcast_shape(node.shape(0), target)
    tail = shape[len(shape) - node.rank(0) :]
    stated = [e if node.extents.equal(e, 1) else t for e, t in zip(node.shape(0), tail, strict=True)]
    return broadcast(node, node.builder.cast_shape(tensor, stated), shape)


def broadcast(node: Node, tensor: Expr, shape: list[Extent]) -> Expr:
    """The tensor repeated to a shape."""
    known = node.builder.shape(tensor)
    if len(known) == len(shape) and all(map(node.extents.equal, known, shape)):
        return tensor
    return relax.op.broadcast_to(tensor, relax.ShapeExpr([as_expression(extent) for extent in shape]))


@converts("Tile")
def tile(node: Node) -> Expr:
    repeats, shape = node.extent_list(1), node.shape(0)
    target = [node.extents.simplify(r * e) for r, e in zip(repeats, shape, strict=True)]

    def compute(x: te.Tensor) -> te.Tensor:
        return tabulate(
            target,
            lambda *i: x(
                *(p if r == 1 and _known(r) else p % e for p, e, r in zip(i, x.shape, repeats, strict=True))
            ),
            name="tile",
        )

    return node.te(compute, node.tensor(0), name="tile")


@converts("Split")
def split(node: Node) -> list[Expr]:
    shape = list(node.shape(0))
    axis = node.axis("axis", 0, len(shape))
    sizes = _split_sizes(node, shape[axis])
    total: Extent = 0
    for size in sizes:
        total = node.extents.simplify(total + size)
    shape[axis] = node.builder.unify(total, shape[axis])
    tensor = node.builder.cast_shape(node.tensor(0), shape)
    if all(isinstance(size, int) and size > 0 for size in sizes) and len(sizes) > 1:
        cuts = np.cumsum(sizes)[:-1].tolist()
        parts = node.emit(relax.op.split(tensor, [int(cut) for cut in cuts], axis))
        return [node.emit(relax.TupleGetItem(parts, position)) for position in range(len(sizes))]
    starts: list[Extent] = [0]
    for size in sizes[:-1]:
        starts.append(node.extents.simplify(starts[-1] + size))
    return [_part(node, tensor, axis, start, size) for start, size in zip(starts, sizes, strict=True)]


def _split_sizes(node: Node, extent: Extent) -> list[Extent]:
    if node.has_attribute("split"):
        return list(node.integers("split"))
    if node.has(1):
        return node.extent_list(1)
    count = node.integer("num_outputs", len(node.outputs))
    size = node.extents.ceil_divide(extent, count)
    if node.extents.equal(node.extents.simplify(size * count), extent) or node.opset < 18:
        return [node.extents.floor_divide(extent, count)] * count
    return [size] * (count - 1) + [node.extents.simplify(extent - size * (count - 1))]


def _part(node: Node, tensor: Expr, axis: int, start: Extent, size: Extent) -> Expr:
    shape = list(node.builder.shape(tensor))
    shape[axis] = size

    def compute(x: te.Tensor) -> te.Tensor:
        return tabulate(shape, lambda *i: x(*i[:axis], i[axis] + start, *i[axis + 1 :]), name="split_part")

    return node.te(compute, tensor, name="split_part")


@converts("DepthToSpace")
def depth_to_space(node: Node) -> Expr:
    batch, channels, height, width = node.shape(0)
    block = node.integer("blocksize")
    depth = node.extents.floor_divide(channels, block * block)
    column_first = node.text("mode", "DCR") == "DCR"
    split_shape = (
        (batch, block, block, depth, height, width)
        if column_first
        else (batch, depth, block, block, height, width)
    )
    order = [0, 3, 4, 1, 5, 2] if column_first else [0, 1, 4, 2, 5, 3]
    blocks = node.builder.reshape(node.tensor(0), split_shape)
    moved = node.emit(relax.op.permute_dims(blocks, order))
    return node.builder.reshape(moved, (batch, depth, height * block, width * block))


@converts("SpaceToDepth")
def space_to_depth(node: Node) -> Expr:
    batch, channels, height, width = node.shape(0)
    block = node.integer("blocksize")
    rows, columns = node.extents.floor_divide(height, block), node.extents.floor_divide(width, block)
    blocks = node.builder.reshape(node.tensor(0), (batch, channels, rows, block, columns, block))
    column_first = node.text("mode", "DCR") == "DCR"
    order = [0, 3, 5, 1, 2, 4] if column_first else [0, 1, 3, 5, 2, 4]
    moved = node.emit(relax.op.permute_dims(blocks, order))
    return node.builder.reshape(moved, (batch, channels * block * block, rows, columns))


__all__ = ["axes_of", "broadcast"]

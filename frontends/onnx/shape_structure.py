"""Operators that move the elements of symbolic arrays, and compute none."""

from __future__ import annotations

import math

import numpy as np

from .constant_tensors import constant_tensor
from .node import Node, normalize_axis
from .shape_evaluators import axes_given, elements_of, evaluates, like
from .values import Value, is_constant

_MAX_ELEMENTS = 4096


@evaluates("Identity")
def _identity(node: Node) -> Value:
    return node.value(0)


@evaluates("Concat")
def _concat(node: Node) -> Value:
    axis = node.integer("axis", 0)
    return like(node, np.concatenate([elements_of(node, i) for i in range(len(node.inputs))], axis=axis))


@evaluates("Gather")
def _gather(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    return like(node, np.take(elements_of(node, 0), node.constant(1), axis=node.integer("axis", 0)))


@evaluates("Slice")
def _slice(node: Node) -> Value:
    bounds = _slice_bounds(node)
    if bounds is None:
        return None
    data = elements_of(node, 0)
    starts, ends, axes, steps = bounds
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        floor = -data.shape[axis] - 1
        index[axis] = slice(start, None if step < 0 and end <= floor else end, step)
    return like(node, data[tuple(index)])


def _slice_bounds(node: Node) -> tuple[list[int], list[int], list[int], list[int]] | None:
    if node.opset < 10:
        starts, ends = list(node.integers("starts")), list(node.integers("ends"))
        return starts, ends, list(node.integers("axes", range(len(starts)))), [1] * len(starts)
    if not all(is_constant(value) for value in node.inputs[1:]):
        return None
    starts, ends = node.constant(1).tolist(), node.constant(2).tolist()
    axes = node.constant(3).tolist() if node.has(3) else list(range(len(starts)))
    steps = node.constant(4).tolist() if node.has(4) else [1] * len(starts)
    return starts, ends, axes, steps


@evaluates("Unsqueeze")
def _unsqueeze(node: Node) -> Value:
    data, axes = elements_of(node, 0), axes_given(node) or []
    rank = data.ndim + len(axes)
    places = {normalize_axis(axis, rank) for axis in axes}
    extents = iter(data.shape)
    return like(node, data.reshape([1 if axis in places else next(extents) for axis in range(rank)]))


@evaluates("Squeeze")
def _squeeze(node: Node) -> Value:
    axes = axes_given(node)
    return like(node, np.squeeze(elements_of(node, 0), axis=None if axes is None else tuple(axes)))


@evaluates("Reshape")
def _reshape(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    data = elements_of(node, 0)
    zero_is_zero = node.integer("allowzero", 0)
    target = [
        data.shape[axis] if extent == 0 and not zero_is_zero else int(extent)
        for axis, extent in enumerate(node.constant(1))
    ]
    return like(node, data.reshape(target))


@evaluates("Flatten")
def _flatten(node: Node) -> Value:
    data = elements_of(node, 0)
    axis = node.integer("axis", 1)
    return like(node, data.reshape(math.prod(data.shape[:axis]), -1))


@evaluates("Transpose")
def _transpose(node: Node) -> Value:
    return like(node, np.transpose(elements_of(node, 0), node.optional_integers("perm")))


@evaluates("Expand")
def _expand(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    data = elements_of(node, 0)
    shape = np.broadcast_shapes(data.shape, tuple(node.constant(1)))
    return like(node, np.broadcast_to(data, shape)) if math.prod(shape) <= _MAX_ELEMENTS else None


@evaluates("Tile")
def _tile(node: Node) -> Value:
    if not isinstance(node.value(1), np.ndarray):
        return None
    return like(node, np.tile(elements_of(node, 0), tuple(node.constant(1))))


@evaluates("Split")
def _split(node: Node) -> list[Value] | None:
    data = elements_of(node, 0)
    axis = node.integer("axis", 0)
    if node.has_attribute("split"):
        sizes = list(node.integers("split"))
    elif node.has(1):
        sizes = [int(size) for size in node.constant(1)]
    else:
        count = len(node.outputs)
        size = -(-data.shape[axis] // count)
        sizes = [size] * (count - 1) + [data.shape[axis] - size * (count - 1)]
    return [like(node, part) for part in np.split(data, np.cumsum(sizes)[:-1], axis=axis)]


@evaluates("ConstantOfShape")
def _constant_of_shape(node: Node) -> Value:
    shape = node.value(0)
    if not isinstance(shape, np.ndarray) or math.prod(int(e) for e in shape) > _MAX_ELEMENTS:
        return None
    tensor = node.attribute("value")
    fill = np.zeros(1, np.float32) if tensor is None else constant_tensor(tensor)
    return np.full([int(e) for e in shape], fill.reshape(-1)[0], fill.dtype)

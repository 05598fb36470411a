"""Attention as ONNX Runtime's optimizers write it: Attention, MultiHeadAttention, QAttention.

All of them become the plain form: product, scale, mask, softmax, product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError, UnsupportedOperatorError
from ..extents import Extent, as_expression
from ..node import Node
from ..registry import converts
from ..tabulate import tabulate
from ..values import Value
from .matmul import product
from .quantization import centred

DOMAIN = "com.microsoft"


def attend(node: Node, query: Expr, key: Expr, value: Expr, masks: Sequence[Expr], scale: float) -> Expr:
    """softmax(scale Q K' + masks) V.

    Args:
        node: for its builder.
        query: [batch, heads, rows, size].
        key, value: [batch, heads, columns, size]; the sizes of keys and values may differ.
        masks: are added to the scores; broadcastable to [batch, heads, rows, columns].
        scale: of the scores.

    Returns:
        [batch, heads, rows, size of the values].
    """
    builder = node.builder
    dtype = builder.dtype(query)
    turned = builder.emit(relax.op.permute_dims(key, [0, 1, 3, 2]))
    scores = builder.bound(product(builder, query, turned))
    if dtype in ("float16", "bfloat16"):
        scores = builder.cast(scores, "float32")
    scores = builder.emit(relax.op.multiply(scores, builder.constant(scale, builder.dtype(scores))))
    for mask in masks:
        added = builder.cast(mask, builder.dtype(scores))
        scores = builder.emit(relax.op.add(*builder.broadcastable(scores, added)))
    weights = builder.cast(builder.emit(relax.op.nn.softmax(scores, -1)), dtype)
    return builder.bound(product(builder, weights, value))


def split_heads(node: Node, x: Expr, heads: int) -> Expr:
    """[batch, rows, heads * size] as [batch, heads, rows, size]."""
    batch, rows, width = node.builder.shape(x)
    size = node.extents.floor_divide(width, heads)
    parts = node.builder.reshape(x, [batch, rows, heads, size])
    return node.emit(relax.op.permute_dims(parts, [0, 2, 1, 3]))


def joined_heads(node: Node, x: Expr) -> Expr:
    """The inverse of ``split_heads``."""
    batch, heads, rows, size = node.builder.shape(x)
    turned = node.emit(relax.op.permute_dims(x, [0, 2, 1, 3]))
    return node.builder.reshape(turned, [batch, rows, node.extents.product([heads, size])])


def _scale(node: Node, size: Extent) -> float:
    given = node.number("scale", 0.0)
    if given:
        return given
    if not isinstance(size, int):
        raise InvalidModelError("the size of a head must be known")
    return 1 / math.sqrt(size)


def _causal_mask(node: Node, rows: Extent, columns: Extent) -> Expr:
    """Hides from each row what comes after it; the last row sees everything."""
    before = as_expression(node.extents.simplify(columns - rows))
    hidden = tirx.const(node.number("mask_filter_value", -10000.0), "float32")

    def element(i: Any, j: Any) -> Expr:
        return tirx.Select(j <= i + before, tirx.const(0, "float32"), hidden)

    return node.te(lambda: tabulate((rows, columns), element, name="causal"), name="causal")


def _padding_mask(node: Node, index: int, columns: Extent) -> Expr:
    """Hides padding. The input is [batch] (lengths), or is 1 where a column is seen: [batch, columns],
    [batch, rows, columns] or [batch, 1, rows, columns], of which the first ones are used.
    """
    mask = node.builder.bound(node.tensor(index))
    shape = node.builder.shape(mask)
    hidden = tirx.const(node.number("mask_filter_value", -10000.0), "float32")
    if len(shape) == 1 and not node.extents.equal(shape[0], node.shape(0)[0]):
        raise UnsupportedOperatorError(f"{node.label}: a mask of starts and ends is not supported")
    front: dict[int, list[Extent]] = {1: [1, 1], 2: [1, 1], 3: [1, *shape[1:2]], 4: list(shape[1:3])}
    target = [shape[0], *front[len(shape)], columns]

    def compute(given: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            if len(shape) == 1:
                seen = i[3] < given(i[0]).astype("int64")
            else:
                place = {2: (i[0], i[3]), 3: (i[0], i[2], i[3]), 4: i}[len(shape)]
                seen = given(*place) != tirx.const(0, given.dtype)
            return tirx.Select(seen, tirx.const(0, "float32"), hidden)

        return tabulate(target, element, name="padding_mask")

    return node.te(compute, mask, name="padding_mask")


@converts("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(node: Node) -> list[Value]:
    """Inputs: query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value."""
    heads = node.integer("num_heads")
    query, key, value = _queries_keys_values(node, heads)
    for place, past in ((0, 6), (1, 7)):
        if node.has(past):
            recent = (key, value)[place]
            whole = node.emit(relax.op.concat([node.tensor(past), recent], 2))
            key, value = (whole, value) if place == 0 else (key, whole)
    rows, columns = node.builder.shape(query)[2], node.builder.shape(key)[2]
    masks = []
    if node.has(4):
        masks.append(_padding_mask(node, 4, columns))
    if node.has(5):
        masks.append(node.tensor(5))
    if node.integer("unidirectional", 0):
        masks.append(_causal_mask(node, rows, columns))
    if node.wants(3):
        raise UnsupportedOperatorError(f"{node.label}: the output 'qk' is not supported")
    result = attend(node, query, key, value, masks, _scale(node, node.builder.shape(query)[3]))
    return [joined_heads(node, result), key, value][: len(node.outputs)]


def _queries_keys_values(node: Node, heads: int) -> tuple[Expr, Expr, Expr]:
    """All [batch, heads, rows, size], with the bias; packed in one or two inputs or not."""
    if not node.has(1):
        packed = node.builder.bound(node.tensor(0))  # [batch, rows, heads, 3, size]
        if node.rank(0) != 5 or node.has(3):
            raise UnsupportedOperatorError(f"{node.label}: this packing of queries, keys and values")
        query, key, value = (_packed_part(node, packed, place) for place in range(3))
        return query, key, value
    query = _with_bias(node, node.tensor(0), 0)
    if not node.has(2):
        packed = node.builder.bound(node.tensor(1))  # [batch, columns, heads, 2, size]
        return split_heads(node, query, heads), _packed_part(node, packed, 0), _packed_part(node, packed, 1)
    if node.rank(1) == 4:  # keys and values that were computed before
        return split_heads(node, query, heads), node.tensor(1), node.tensor(2)
    key, value = _with_bias(node, node.tensor(1), 1), _with_bias(node, node.tensor(2), 2)
    return split_heads(node, query, heads), split_heads(node, key, heads), split_heads(node, value, heads)


def _packed_part(node: Node, packed: Expr, place: int) -> Expr:
    batch, rows, heads, _, size = node.builder.shape(packed)
    part = node.emit(relax.op.strided_slice(packed, [3], [place], [place + 1]))
    return node.emit(
        relax.op.permute_dims(node.builder.reshape(part, [batch, rows, heads, size]), [0, 2, 1, 3])
    )


def _with_bias(node: Node, x: Expr, place: int) -> Expr:
    """Queries, keys or values plus their part of the bias, which holds all three, one after another."""
    if not node.has(3):
        return x
    total, width = node.shape(3)[0], node.shape(0)[-1]
    starts = [0, width, 2 * width, total]
    bias = node.emit(relax.op.strided_slice(node.tensor(3), [0], [starts[place]], [starts[place + 1]]))
    return node.emit(relax.op.add(x, bias))


@converts("Attention", domain=DOMAIN)
def attention(node: Node) -> list[Value]:
    """Inputs: input, weights, bias, mask_index, past, attention_bias."""
    flat = product(node.builder, node.tensor(0), node.tensor(1))
    if node.has(2):
        flat = node.emit(relax.op.add(node.builder.bound(flat), node.tensor(2)))
    return _self_attention(node, node.builder.bound(flat), 3, 4, 5)


@converts("QAttention", domain=DOMAIN)
def quantized_attention(node: Node) -> list[Value]:
    """Inputs: input, weight, bias, input_scale, weight_scale, mask_index, their zero points, past."""
    operands = [centred(node, 0, 6), centred(node, 1, 7)]
    flat = node.builder.cast(node.builder.bound(product(node.builder, *operands)), "float32")
    for index in (3, 4):
        flat = node.emit(relax.op.multiply(*node.builder.broadcastable(flat, node.tensor(index))))
    return _self_attention(node, node.emit(relax.op.add(flat, node.tensor(2))), 5, 8, 9)


def _self_attention(node: Node, flat: Expr, mask: int, past: int, bias: int) -> list[Value]:
    """From queries, keys and values side by side, [batch, rows, widths]; the other inputs by number."""
    heads = node.integer("num_heads")
    query, key, value = (split_heads(node, part, heads) for part in _columns(node, flat))
    if node.has(past):
        key, value = (_prolonged(node, past, place, new) for place, new in enumerate((key, value)))
    rows, columns = node.builder.shape(query)[2], node.builder.shape(key)[2]
    masks = []
    if node.integer("unidirectional", 0):
        masks.append(_causal_mask(node, rows, columns))
    if node.has(mask):
        masks.append(_padding_mask(node, mask, columns))
    if node.has(bias):
        masks.append(node.tensor(bias))
    result = attend(node, query, key, value, masks, _scale(node, node.builder.shape(query)[3]))
    present: Value = None
    if node.wants(1):
        present = node.emit(relax.op.stack([key, value], 0))
    return [joined_heads(node, result), present][: len(node.outputs)]


def _columns(node: Node, flat: Expr) -> list[Expr]:
    width = node.builder.shape(flat)[-1]
    if not isinstance(width, int):
        raise InvalidModelError("the width of the weights must be known")
    widths = node.integers("qkv_hidden_sizes", [width // 3] * 3)
    starts = [int(start) for start in np.cumsum([0, *widths])]
    return [
        node.emit(relax.op.strided_slice(flat, [2], [start], [start + count]))
        for start, count in zip(starts, widths, strict=False)
    ]


def _prolonged(node: Node, past: int, place: int, recent: Expr) -> Expr:
    """Keys (place 0) or values (1) of earlier calls, [2, batch, heads, columns, size], and the new ones."""
    old = node.emit(relax.op.strided_slice(node.tensor(past), [0], [place], [place + 1]))
    return node.emit(relax.op.concat([node.builder.reshape(old, node.shape(past)[1:]), recent], 2))

"""Attention of decoders as com.microsoft writes it: RotaryEmbedding and GroupQueryAttention."""

from __future__ import annotations

import math
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import UnsupportedOperatorError
from ..extents import Extent, as_expression
from ..node import Node
from ..registry import converts
from ..tabulate import tabulate
from ..values import Value
from .fused_attention import DOMAIN, attend, joined_heads, split_heads


@converts("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(node: Node) -> Expr:
    """Inputs: [batch, rows, heads * size] or [batch, heads, rows, size]; positions; cosines; sines."""
    if node.integer("is_packed_batching", 0):
        raise UnsupportedOperatorError(f"{node.label}: packed batches are not supported")
    x, flat = node.builder.bound(node.tensor(0)), node.rank(0) == 3
    if flat:
        half = node.shape(2)[1]
        rotated = node.integer("rotary_embedding_dim", 0)
        heads: Extent = node.integer("num_heads", 0)
        if not rotated or not heads:
            heads = node.extents.floor_divide(node.shape(0)[2], node.extents.simplify(2 * half))
        assert isinstance(heads, int), "a model's width and its tables are constants"
        x = split_heads(node, x, heads)
    positions = node.builder.cast(node.tensor(1), "int64")
    if node.rank(1) == 1:
        positions = _counted(node, positions, node.builder.shape(x))
    result = rotated_pairs(node, x, positions, (node.tensor(2), node.tensor(3)), "interleaved")
    return joined_heads(node, result) if flat else result


def _counted(node: Node, first: Expr, shape: tuple[Extent, ...]) -> Expr:
    """Positions that follow the first one: [batch, rows]."""

    def compute(start: te.Tensor) -> te.Tensor:
        return tabulate((shape[0], shape[2]), lambda _, row: start(0) + row, name="positions")

    return node.te(compute, first, name="positions")


def rotated_pairs(node: Node, x: Expr, positions: Expr, tables: tuple[Expr, Expr], interleaved: str) -> Expr:
    """Turns pairs of a head's first elements by angles that depend on the position.

    Args:
        node: for its builder; its attribute ``interleaved`` says which elements are pairs.
        x: [batch, heads, rows, size].
        positions: [batch, rows] in int64.
        tables: cosines and sines, [positions, half of how many elements turn].
        interleaved: the attribute that says whether neighbours are pairs.
    """
    half = as_expression(node.builder.shape(tables[0])[1])
    neighbours = bool(node.integer(interleaved, 0))

    def compute(data: te.Tensor, place: te.Tensor, cosines: te.Tensor, sines: te.Tensor) -> te.Tensor:
        def element(b: Any, h: Any, row: Any, i: Any) -> Expr:
            second = tirx.floormod(i, 2) == 1 if neighbours else i >= half
            pair = tirx.floordiv(i, 2) if neighbours else tirx.floormod(i, half)
            other = i + (tirx.Select(second, -1, 1) if neighbours else tirx.Select(second, -half, half))
            pair, other = tirx.min(pair, half - 1), tirx.Select(i < half * 2, other, i)
            c, s = (t(place(b, row), pair).astype("float32") for t in (cosines, sines))
            mine, its = (data(b, h, row, k).astype("float32") for k in (i, other))
            turned = tirx.Select(second, mine * c + its * s, mine * c - its * s)
            return tirx.Select(i < half * 2, turned, mine).astype(data.dtype)

        return tabulate(data.shape, element, name="rotary")

    return node.te(compute, x, positions, *tables, name="rotary")


@converts("GroupQueryAttention", domain=DOMAIN)
def group_query_attention(node: Node) -> list[Value]:
    """Causal attention in which several heads of queries share a head of keys and values.

    Inputs: query, key, value, past_key, past_value, seqlens_k (the last position of each entry of the
    batch), total_sequence_length, cos_cache, sin_cache.
    """
    if any(node.has(index) for index in (9, 10, 11)) or node.number("softcap", 0.0):
        raise UnsupportedOperatorError(f"{node.label}: positions, biases, sinks and softcap")
    heads, groups = node.integer("num_heads"), node.integer("kv_num_heads")
    query, key, value = _parts(node, heads, groups)
    rows = node.builder.shape(query)[2]
    lengths = _lengths_before(node, rows)
    if node.integer("do_rotary", 0):
        positions, tables = _positions(node, lengths, rows), (node.tensor(7), node.tensor(8))
        query, key = (rotated_pairs(node, x, positions, tables, "rotary_interleaved") for x in (query, key))
    total = node.extent_list(6)[0] if node.has(3) else rows
    keys, values = (_present(node, past, new, lengths, total) for past, new in ((3, key), (4, value)))
    mask = _mask(node, lengths, rows, node.builder.shape(keys)[2])
    shared = [_repeated(node, x, heads // groups) for x in (keys, values)]
    size = node.builder.shape(query)[3]
    assert isinstance(size, int), "the size of a head is a constant of the model"
    scale = node.number("scale", 0.0) or 1 / math.sqrt(size)
    result = attend(node, query, shared[0], shared[1], [mask], scale)
    return [joined_heads(node, result), keys, values][: len(node.outputs)]


def _parts(node: Node, heads: int, groups: int) -> tuple[Expr, Expr, Expr]:
    if node.has(1):
        return (
            split_heads(node, node.tensor(0), heads),
            split_heads(node, node.tensor(1), groups),
            split_heads(node, node.tensor(2), groups),
        )
    every = split_heads(node, node.tensor(0), heads + 2 * groups)
    bounds = [0, heads, heads + groups, heads + 2 * groups]
    query, key, value = (
        node.emit(relax.op.strided_slice(every, [1], [bounds[i]], [bounds[i + 1]])) for i in range(3)
    )
    return query, key, value


def _lengths_before(node: Node, rows: Extent) -> Expr:
    """How many positions each entry of the batch has already: [batch]."""

    def compute(last: te.Tensor) -> te.Tensor:
        def element(b: Any) -> Expr:
            before = last(b).astype("int64") + 1 - as_expression(rows)
            return tirx.max(before, tirx.IntImm("int64", 0))

        return tabulate((node.shape(0)[0],), element, name="lengths")

    flat = node.builder.reshape(node.tensor(5), [node.shape(0)[0]])
    return node.te(compute, flat, name="lengths")


def _positions(node: Node, lengths: Expr, rows: Extent) -> Expr:
    def compute(before: te.Tensor) -> te.Tensor:
        return tabulate((node.shape(0)[0], rows), lambda b, row: before(b) + row, name="positions")

    return node.te(compute, lengths, name="positions")


def _present(node: Node, past: int, new: Expr, lengths: Expr, total: Extent) -> Expr:
    """Old keys or values and, behind those of each entry, the new ones."""
    batch, heads, rows, size = node.builder.shape(new)
    if not node.has(past):
        return new
    room = node.shape(past)[2]
    columns = node.extents.maximum(room, total)

    def compute(old: te.Tensor, recent: te.Tensor, before: te.Tensor) -> te.Tensor:
        def element(b: Any, h: Any, t: Any, i: Any) -> Expr:
            place = t - before(b)
            added = tirx.if_then_else(
                place < as_expression(rows), recent(b, h, place, i), tirx.const(0, recent.dtype)
            )
            kept = tirx.if_then_else(t < as_expression(room), old(b, h, t, i), tirx.const(0, old.dtype))
            return tirx.if_then_else(place < 0, kept, added)

        return tabulate((batch, heads, columns, size), element, name="present")

    return node.te(compute, node.tensor(past), new, lengths, name="present")


def _mask(node: Node, lengths: Expr, rows: Extent, columns: Extent) -> Expr:
    """Hides later positions, and those that a window has left behind: [batch, 1, rows, columns]."""
    window = node.integer("local_window_size", -1)

    def compute(before: te.Tensor) -> te.Tensor:
        def element(b: Any, _: Any, row: Any, t: Any) -> Expr:
            mine = before(b) + row
            seen = t <= mine
            if window > 0:
                seen = tirx.all(seen, t > mine - window)
            return tirx.Select(seen, tirx.const(0, "float32"), tirx.const(-1e30, "float32"))

        return tabulate((node.shape(0)[0], 1, rows, columns), element, name="causal")

    return node.te(compute, lengths, name="causal")


def _repeated(node: Node, x: Expr, times: int) -> Expr:
    return x if times == 1 else node.emit(relax.op.repeat(x, times, 1))

"""Attention on bfloat16: products of pairs summed in float32, the softmax in float32.

As ``attention``, a block of queries at a time, with pairs along the features for the scores, and along the
keys for the values. A weight is rounded before its sum, so that weights and their sum fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD
from .attention import ROW_AXIS, AttentionOperands, blocks_of, over_keys
from .pairs import adjacent_pair, bits, join_pair, pair_numbers, pair_product, rounded_bits
from .rows import exp_below_zero

Extent: TypeAlias = tirx.Expr | int


def attention_pairs(operands: AttentionOperands, axes: Sequence[int], lanes: int, vectors: int) -> te.Tensor:
    """softmax(q k^T, masked) v in bfloat16, from such; arguments as of ``attention.attention``, but that
    queries come without their scale, which is up to ``adjust``."""
    x, width = operands, lanes * vectors
    blocks, rank = blocks_of(x.queries, width), len(x.batch)
    scores = _scores(x, blocks, width)
    largest = over_keys(x, blocks, width, x.keys, te.max, lambda *i: scores(*i), "row_max")
    weights = _weights(x, scores, largest)

    def both(*i: tirx.Var) -> tirx.Expr:
        first, second = pair_numbers(weights(*i))
        return first + second

    total = over_keys(x, blocks, width, _pairs(x.keys), te.sum, both, "row_sum")
    values = _values(x, weights, lanes, list(axes).index(rank))

    def normalised(*i: tirx.Var) -> tirx.Expr:
        *outer, m, e = (i[list(axes).index(axis)] for axis in range(rank + 2))
        block, row = tirx.floordiv(m, width), tirx.floormod(m, width)
        inverse = tirx.const(1, "float32") / total(*outer, block, row)
        place = (*outer, block, row, tirx.floordiv(e, lanes), tirx.floormod(e, lanes))
        return tirx.Cast("bfloat16", values(*place) * inverse)

    shape = [*x.batch, x.queries, x.columns]
    return te.compute([shape[axis] for axis in axes], normalised, name="attention_result")


def _pairs(extent: Extent) -> Extent:
    return (extent + 1) // 2 if isinstance(extent, int) else tirx.floordiv(extent + 1, 2)


def _is_even(extent: Extent) -> bool:
    return isinstance(extent, int | tirx.IntImm) and int(extent) % 2 == 0


def _second(value: tirx.Expr, index: tirx.Expr, extent: Extent) -> tirx.Expr:
    """``value``, the bits at ``index`` of an axis; zero behind its end."""
    return value if _is_even(extent) else tirx.if_then_else(index < extent, value, tirx.const(0, "uint16"))


def _scores(x: AttentionOperands, blocks: Extent, width: int) -> te.Tensor:
    """[*batch, blocks, n, width]."""
    features = x.features

    def query(*i: tirx.Var) -> tirx.Expr:
        *outer, block, d, lane = i
        row = [*outer, tirx.min(block * width + lane, x.queries - 1)]
        both = [bits(x.query([*row, 2 * d + half])) for half in range(2)]
        return _along_features(both, d, features, x.query_in_rows)

    queries = te.compute((*x.batch, blocks, _pairs(features), width), query, name="queries")
    d = te.reduce_axis((0, _pairs(features)), "d")

    def multiply(*i: tirx.Var) -> tirx.Expr:
        *outer, block, n, lane = i
        both = [bits(x.key([*outer, tirx.min(n, x.keys - 1), 2 * d + half])) for half in range(2)]
        key = _along_features(both, d, features, x.key_in_rows)
        return te.sum(pair_product(key, queries(*outer, block, d, lane)), axis=d)

    def adjusted(*i: tirx.Var) -> tirx.Expr:
        *outer, block, n, lane = i
        return x.adjust([*outer, tirx.min(block * width + lane, x.queries - 1), n], products(*i))

    shape = (*x.batch, blocks, x.keys + TILE_SLACK, width)
    products = te.compute(shape, multiply, name="products", attrs={WORKLOAD: "attention_products"})
    return te.compute((*x.batch, blocks, x.keys, width), adjusted, name="scores")


def _along_features(both: Sequence[tirx.Expr], pair: tirx.Expr, extent: Extent, in_rows: bool) -> tirx.Expr:
    first, second = both
    if in_rows and _is_even(extent):
        return adjacent_pair(first, second)
    return join_pair(first, _second(second, 2 * pair + 1, extent))


def _weights(x: AttentionOperands, scores: te.Tensor, largest: te.Tensor) -> te.Tensor:
    """[*batch, blocks, pairs of keys, width]: e^(score - largest), not divided by their sums yet."""
    *outer_shape, _, width = scores.shape

    def weight(*i: tirx.Var) -> tirx.Expr:
        *outer, pair, lane = i
        first, second = (
            rounded_bits(exp_below_zero(scores(*outer, 2 * pair + half, lane) - largest(*outer, lane)))
            for half in range(2)
        )
        return join_pair(first, _second(second, 2 * pair + 1, x.keys))

    return te.compute((*outer_shape, _pairs(x.keys), width), weight, name="weights")


def _values(x: AttentionOperands, weights: te.Tensor, lanes: int, row_axis: int) -> te.Tensor:
    """[*batch, blocks, width, e / lanes, lanes]: the values' sums, not divided by the weights' yet."""
    panels = -(-x.columns // lanes)
    packed = _packed_values(x, panels * lanes)
    *outer_shape, pairs, width = weights.shape
    k = te.reduce_axis((0, pairs), "n")

    def multiply(*i: tirx.Var) -> tirx.Expr:
        *outer, block, row, panel, lane = i
        weight = weights(*outer, block, k, tirx.min(row, width - 1))
        return te.sum(pair_product(weight, packed(*outer, k, panel * lanes + lane)), axis=k)

    return te.compute(
        (*outer_shape, width + TILE_SLACK, panels, lanes),
        multiply,
        name="values",
        attrs={WORKLOAD: "attention", ROW_AXIS: row_axis},
    )


def _packed_values(x: AttentionOperands, width: int) -> te.Tensor:
    """The values in rows of pairs, of whole vectors."""

    def value(*i: tirx.Var) -> tirx.Expr:
        *outer, pair, column = i
        first, second = (bits(x.value([*outer, 2 * pair + half, column])) for half in range(2))
        joined = join_pair(first, _second(second, 2 * pair + 1, x.keys))
        if x.columns == width:
            return joined
        return tirx.if_then_else(column < x.columns, joined, tirx.const(0, "int32"))

    return te.compute((*x.batch, _pairs(x.keys), width), value, name="pack_values")

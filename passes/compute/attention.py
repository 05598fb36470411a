"""Scaled dot-product attention, a block of queries at a time.

Queries lie side by side in the lanes of vectors, keys one after another. So the softmax walks over vectors,
whatever the number of keys, and keys and values are read where they are, by element and by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD
from .rows import exp_below_zero
from .widening import widen

ROW_AXIS = "relaxc.row_axis"
"""Which loop of the result runs over the queries: an annotation beside ``WORKLOAD``."""

Index = Sequence[tirx.Expr]
Load = Callable[[Index], tirx.Expr]
Adjust = Callable[[Index, tirx.Expr], tirx.Expr]


@dataclass(frozen=True)
class AttentionOperands:
    """What attention reads, and its extents.

    Attributes:
        query: element [*batch, m, d], scaled already.
        key: element [*batch, n, d].
        value: element [*batch, n, e].
        query_in_rows, key_in_rows, value_in_rows: whether neighbours along d, d and e are so in memory.
        adjust: the score of [*batch, m, n] after masking, from the score before.
        batch, queries, keys, features, columns: extents of the axes batch, m, n, d, e.
    """

    query: Load
    key: Load
    value: Load
    query_in_rows: bool
    key_in_rows: bool
    value_in_rows: bool
    adjust: Adjust
    batch: Sequence[tirx.Expr | int]
    queries: tirx.Expr | int
    keys: tirx.Expr | int
    features: tirx.Expr | int
    columns: int


def attention(operands: AttentionOperands, axes: Sequence[int], lanes: int, vectors: int) -> te.Tensor:
    """softmax(q k^T, masked) v (Vaswani et al., 2017).

    Args:
        operands: what is read.
        axes: the result is [*batch, m, e] with its axes permuted by these.
        lanes: of a vector.
        vectors: of queries in a block.
    """
    x, width = operands, lanes * vectors
    batch, blocks, rank = list(x.batch), blocks_of(x.queries, width), len(x.batch)
    scores = _scores(x, _queries(x, blocks, width), blocks, width)
    largest = over_keys(x, blocks, width, x.keys, te.max, lambda *i: scores(*i), "row_max")

    def weight(*i: tirx.Var) -> tirx.Expr:
        return exp_below_zero(scores(*i) - largest(*i[: rank + 1], i[-1]))

    weights = te.compute((*batch, blocks, x.keys, width), weight, name="weights")
    total = over_keys(x, blocks, width, x.keys, te.sum, lambda *i: weights(*i), "row_sum")
    values = _values(x, weights, blocks, lanes, width, list(axes).index(rank))

    def normalised(*i: tirx.Var) -> tirx.Expr:
        *outer, m, e = (i[list(axes).index(axis)] for axis in range(rank + 2))
        block, row = tirx.floordiv(m, width), tirx.floormod(m, width)
        inverse = tirx.const(1, "float32") / total(*outer, block, row)
        return values(*outer, block, row, tirx.floordiv(e, lanes), tirx.floormod(e, lanes)) * inverse

    shape = [*batch, x.queries, x.columns]
    return te.compute([shape[axis] for axis in axes], normalised, name="attention_result")


def with_widened_keys(operands: AttentionOperands) -> AttentionOperands:
    """Keys and values stored in float16 are widened once, not again for each block of queries."""
    x = operands

    def stage(load: Load, width: tirx.Expr | int, name: str) -> Load:
        shape = (*x.batch, x.keys, width)
        wide = te.compute(shape, lambda *index: widen(load(index)), name=name)
        return lambda index: wide(*index)

    key, value = stage(x.key, x.features, "wide_keys"), stage(x.value, x.columns, "wide_values")
    return replace(x, key=key, key_in_rows=True, value=value, value_in_rows=True)


def blocks_of(queries: tirx.Expr | int, width: int) -> tirx.Expr | int:
    """How many blocks hold the queries; perhaps one more for a symbolic number, so that TVM can prove it."""
    if isinstance(queries, int | tirx.IntImm):
        return -(-int(queries) // width)
    return tirx.floordiv(queries, width) + 1


def _queries(x: AttentionOperands, blocks: tirx.Expr | int, width: int) -> te.Tensor:
    """[*batch, blocks, d, width]: a block's queries side by side, the last one again beyond the end."""

    def query(*i: tirx.Var) -> tirx.Expr:
        *outer, block, d, lane = i
        return x.query([*outer, tirx.min(block * width + lane, x.queries - 1), d])

    return te.compute((*x.batch, blocks, x.features, width), query, name="queries")


def _scores(x: AttentionOperands, queries: te.Tensor, blocks: tirx.Expr | int, width: int) -> te.Tensor:
    """[*batch, blocks, n, width]."""
    d = te.reduce_axis((0, x.features), "d")

    def multiply(*i: tirx.Var) -> tirx.Expr:
        *outer, block, n, lane = i
        key = x.key([*outer, tirx.min(n, x.keys - 1), d])
        return te.sum(key * queries(*outer, block, d, lane), axis=d)

    def adjusted(*i: tirx.Var) -> tirx.Expr:
        *outer, block, n, lane = i
        query = tirx.min(block * width + lane, x.queries - 1)
        return x.adjust([*outer, query, n], products(*i))

    shape = (*x.batch, blocks, x.keys + TILE_SLACK, width)
    products = te.compute(shape, multiply, name="products", attrs={WORKLOAD: "attention_products"})
    return te.compute((*x.batch, blocks, x.keys, width), adjusted, name="scores")


def over_keys(
    x: AttentionOperands,
    blocks: tirx.Expr | int,
    width: int,
    extent: tirx.Expr | int,
    reduce: Callable[..., tirx.Expr],
    load: Callable[..., tirx.Expr],
    name: str,
) -> te.Tensor:
    """[*batch, blocks, width]: ``load`` reduced over its last axis but one, which has ``extent``."""
    n = te.reduce_axis((0, extent), "n")
    return te.compute(
        (*x.batch, blocks, width), lambda *i: reduce(load(*i[:-1], n, i[-1]), axis=n), name=name
    )


def _values(
    x: AttentionOperands, weights: te.Tensor, blocks: tirx.Expr | int, lanes: int, width: int, row_axis: int
) -> te.Tensor:
    """[*batch, blocks, width, e / lanes, lanes]: the values' sums, not divided by the weights' yet."""
    n = te.reduce_axis((0, x.keys), "n")
    panels = -(-x.columns // lanes)
    load = x.value if x.value_in_rows and x.columns % lanes == 0 else _packed_values(x, panels, lanes)

    def multiply(*i: tirx.Var) -> tirx.Expr:
        *outer, block, row, panel, lane = i
        weight = weights(*outer, block, n, tirx.min(row, width - 1))
        return te.sum(weight * load([*outer, n, panel * lanes + lane]), axis=n)

    return te.compute(
        (*x.batch, blocks, width + TILE_SLACK, panels, lanes),
        multiply,
        name="values",
        attrs={WORKLOAD: "attention", ROW_AXIS: row_axis},
    )


def _packed_values(x: AttentionOperands, panels: int, lanes: int) -> Load:
    """The values in rows of whole vectors."""

    def value(*i: tirx.Var) -> tirx.Expr:
        loaded = x.value(i)
        return loaded if x.columns % lanes == 0 else tirx.if_then_else(i[-1] < x.columns, loaded, 0.0)

    packed = te.compute((*x.batch, x.keys, panels * lanes), value, name="pack_values")
    return lambda index: packed(*index)

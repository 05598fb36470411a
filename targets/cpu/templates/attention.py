"""Attention: everything about a block of queries is done while its scores are in cache.

Blocks run in parallel. In each, a register tile of keys times queries gives the scores, the softmax walks
over them in vectors of queries, and a register tile of queries times columns sums the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute.attention import ROW_AXIS
from ..machine import Machine
from .blocks import anchor_block, inline_epilogue, loop_extents, parallelise_nest, static_product
from .register_kernel import accumulate, place_tile
from .register_tile import FMA_CHAINS, RegisterTile, TileProblem, tiles
from .spatial import schedule_rest

KIND = "attention"
PRODUCTS = "attention_products"
STAGES = ("queries", "scores", "row_max", "weights", "row_sum")
"""The blocks between the inputs and the sum of the values, besides the products."""


@dataclass(frozen=True)
class AttentionWorkload:
    """Extents; symbolic ones are None.

    Attributes:
        keys: how many.
        features: length of a query and of a key; in pairs where they are such.
        width: queries in a block.
        panels: vectors in a row of values.
        lanes: of a vector.
        row_axis: which loop of the result runs over the queries.
        whole_panels: whether the last vector of a row of values is full.
    """

    keys: int | None
    features: int | None
    width: int
    panels: int
    lanes: int
    row_axis: int
    whole_panels: bool


@dataclass(frozen=True)
class AttentionConfig:
    """Two tiles of accumulators: ``score_keys`` by a block's vectors of queries for scores, ``value_rows``
    by ``value_vectors`` for the sums of the values."""

    score_keys: int
    value_rows: int
    value_vectors: int


class AttentionTemplate:
    """See the module's description."""

    name = "attention"
    version = 2

    def matches(self, sch: Schedule) -> AttentionWorkload | None:
        values, products = anchor_block(sch, KIND), anchor_block(sch, PRODUCTS)
        if values is None or products is None:
            return None
        *_, panels, lanes, _ = loop_extents(sch, values)
        *_, keys, _ = loop_extents(sch, sch.get_sblock("scores"))
        *_, width, features = loop_extents(sch, products)
        (crop,) = sch.get_consumers(values)
        if width is None or panels is None or lanes is None:
            return None
        row_axis = int(sch.get(values).annotations[ROW_AXIS])
        whole = loop_extents(sch, crop)[-1] == panels * lanes
        return AttentionWorkload(keys, features, width, panels, lanes, row_axis, whole)

    def space(self, workload: AttentionWorkload, machine: Machine) -> Iterator[AttentionConfig]:
        for scores in _score_tiles(workload, machine):
            for values in _value_tiles(workload, machine):
                yield AttentionConfig(scores.rows, values.rows, values.vectors)

    def default(self, workload: AttentionWorkload, machine: Machine) -> AttentionConfig:
        values = _best_value_tile(workload, machine)
        return AttentionConfig(_best_score_tile(workload, machine).rows, values.rows, values.vectors)

    def apply(self, sch: Schedule, workload: AttentionWorkload, config: AttentionConfig) -> None:
        values, products = anchor_block(sch, KIND), anchor_block(sch, PRODUCTS)
        assert values is not None
        assert products is not None
        stages = {name: sch.get_sblock(name) for name in STAGES}
        last = inline_epilogue(sch, values)
        schedule_rest(sch, values, last, products, *stages.values())
        outer, inner = _split_rows(sch, last, workload, config)
        place_tile(sch, values, last, inner, staged=True, whole_vectors=workload.whole_panels)
        for name in ("row_sum", "weights", "row_max", "scores"):
            sch.compute_at(stages[name], outer[-1], preserve_unit_loops=True)
        _tile_scores(sch, products, stages["scores"], workload.lanes, config.score_keys)
        sch.compute_at(stages["queries"], outer[-1], preserve_unit_loops=True)
        # Of fused loops TVM would not have seen that a symbolic number of blocks covers the queries.
        parallelise_nest(sch, outer)
        if str(sch.get(stages["queries"]).writes[0].source.dtype) == "float32":
            _vectorise_lanes(sch, stages["queries"], workload)  # Pairs are loaded as such, one at a time.
        row, lane, d = sch.get_loops(products)[-3:]
        _accumulate_lanes(sch, products, d, [row], lane, workload)
        _vectorise_lanes(sch, stages["weights"], workload)
        for name in ("row_max", "row_sum"):
            lane, n = sch.get_loops(stages[name])[-2:]
            _accumulate_lanes(sch, stages[name], n, [], lane, workload)
        *tile, lane, n = sch.get_loops(values)[-4:]
        accumulate(sch, values, [n], tile, lane)


def _split_rows(
    sch: Schedule, last: SBlockRV, workload: AttentionWorkload, config: AttentionConfig
) -> tuple[list[LoopRV], LoopRV]:
    """The loops over blocks of queries, symbolic ones first, and the one inside over their tiles."""
    *outer, column = sch.get_loops(last)
    block, row, inner = sch.split(
        outer[workload.row_axis], [None, workload.width // config.value_rows, config.value_rows]
    )
    outer[workload.row_axis] = block
    outer.sort(key=lambda loop: static_product(sch, [loop]) is not None)
    panel, vector, lane = sch.split(column, [None, config.value_vectors, workload.lanes])
    sch.reorder(*outer, row, panel, inner, vector, lane)
    return outer, panel


def _tile_scores(sch: Schedule, products: SBlockRV, scores: SBlockRV, lanes: int, keys: int) -> None:
    n, lane = sch.get_loops(scores)[-2:]
    n, _ = sch.split(n, [None, keys])
    sch.split(lane, [None, lanes])
    place_tile(sch, products, scores, n, staged=True)


def _vectorise_lanes(sch: Schedule, block: SBlockRV, workload: AttentionWorkload) -> None:
    vector, lane = sch.split(sch.get_loops(block)[-1], [None, workload.lanes])
    sch.unroll(vector)
    sch.vectorize(lane)


def _accumulate_lanes(
    sch: Schedule,
    block: SBlockRV,
    reduced: LoopRV,
    rows: list[LoopRV],
    queries: LoopRV,
    workload: AttentionWorkload,
) -> None:
    """Reduces with a sum for every row and query in registers."""
    vector, lane = sch.split(queries, [None, workload.lanes])
    accumulate(sch, block, [reduced], [*rows, vector], lane)


def _score_tiles(workload: AttentionWorkload, machine: Machine) -> Iterator[RegisterTile]:
    vectors = workload.width // workload.lanes
    problem = TileProblem(workload.keys, vectors, 0)
    return (tile for tile in tiles(problem, machine) if tile.vectors == vectors)


def _best_score_tile(workload: AttentionWorkload, machine: Machine) -> RegisterTile:
    """The largest among those that waste the least."""

    def cost(tile: RegisterTile) -> float:
        waste = 1.0 if workload.keys is None else -(-workload.keys // tile.rows) * tile.rows / workload.keys
        return waste * (tile.rows + 2) / tile.rows

    return min(_score_tiles(workload, machine), key=cost)


def _value_tiles(workload: AttentionWorkload, machine: Machine) -> Iterator[RegisterTile]:
    """Their rows divide a block, so that TVM sees that a tile stays inside of one."""
    problem = TileProblem(workload.width, workload.panels, 0)
    return (tile for tile in tiles(problem, machine) if workload.width % tile.rows == 0)


def _best_value_tile(workload: AttentionWorkload, machine: Machine) -> RegisterTile:
    """The one that keeps the most sums in flight; of those, the one that loads the least.

    Values come from further away than weights.
    """

    def cost(tile: RegisterTile) -> float:
        sums = tile.rows * tile.vectors
        return (max(sums, FMA_CHAINS) + 0.1 * tile.rows + 0.35 * tile.vectors) / sums

    return min(_value_tiles(workload, machine), key=cost)

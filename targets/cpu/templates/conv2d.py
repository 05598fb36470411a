"""Direct convolution on blocked layouts.

A tile of output columns times output-channel blocks stays in registers while the kernel walks over the
input channels and the window; the epilogue runs on the tile before it is written, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..machine import Machine
from ..prefetch import PanelSweep, RowTiles, mark_prefetch
from .blocks import anchor_block, inline_epilogue, loop_extents, parallelise_nest
from .register_kernel import STAGING_STEPS, accumulate, place_tile
from .register_tile import RegisterTile, TileProblem, best_tile, tiles
from .spatial import schedule_rest

KIND = "conv2d_nchwc"


@dataclass(frozen=True)
class Conv2dWorkload:
    """A convolution: output channel blocks, output height and width (None if symbolic), window, input
    channels, and the lanes of an output and of an input block (1 where the input is not blocked)."""

    out_blocks: int
    height: int | None
    width: int | None
    window: tuple[int, int]
    channels: int
    lanes: int
    in_lanes: int


@dataclass(frozen=True)
class Conv2dConfig:
    """The accumulators: columns by output-channel blocks."""

    tile: RegisterTile


class Conv2dTemplate:
    """See the module's description."""

    name = "conv2d"
    version = 1

    def matches(self, sch: Schedule) -> Conv2dWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        _, out_blocks, _, _, lanes, R, S, C = loop_extents(sch, anchor)
        (crop,) = sch.get_consumers(anchor)
        _, _, height, width, _ = loop_extents(sch, crop)
        source = sch.get(anchor).reads[0].source
        in_lanes = int(source.shape[4]) if len(source.shape) == 5 else 1
        if sch.get(anchor).reads[1].source.dtype == "int32":
            in_lanes //= 2  # pairs of channels
        if out_blocks is None or lanes is None or R is None or S is None or C is None:
            return None
        return Conv2dWorkload(out_blocks, height, width, (R, S), C, lanes, in_lanes)

    def space(self, workload: Conv2dWorkload, machine: Machine) -> Iterator[Conv2dConfig]:
        return (Conv2dConfig(tile) for tile in tiles(_problem(workload), machine))

    def default(self, workload: Conv2dWorkload, machine: Machine) -> Conv2dConfig:
        return Conv2dConfig(best_tile(_problem(workload), machine))

    def apply(self, sch: Schedule, workload: Conv2dWorkload, config: Conv2dConfig) -> None:
        anchor = anchor_block(sch, KIND)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        schedule_rest(sch, anchor, last)
        _tile(sch, anchor, last, workload, config.tile)
        step = _accumulate(sch, anchor, workload)
        sweep = _sweep(workload, config.tile)
        if sweep is not None and sweep.gains_from_prefetching:
            mark_prefetch(sch, step, sweep)


def _problem(workload: Conv2dWorkload) -> TileProblem:
    R, S = workload.window
    return TileProblem(
        rows=workload.width,
        vectors=workload.out_blocks,
        vector_bytes_reused=R * S * workload.channels * workload.lanes * 4,
    )


def _tile(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, workload: Conv2dWorkload, tile: RegisterTile
) -> None:
    n, o, h, w, lane = sch.get_loops(last)
    o, o_inner = sch.split(o, [None, tile.vectors])
    w, w_inner = sch.split(w, [None, tile.rows])
    sch.reorder(n, o, h, w, w_inner, o_inner, lane)
    parallelise_nest(sch, [n, o, h])
    R, S = workload.window
    exact = workload.width is not None and workload.width % tile.rows == 0
    place_tile(sch, anchor, last, w, staged=not exact or R * S * workload.channels >= STAGING_STEPS)


def _sweep(workload: Conv2dWorkload, tile: RegisterTile) -> PanelSweep | None:
    """How the tiles of an output-channel block go over its weights; None where extents are symbolic."""
    if workload.height is None or workload.width is None:
        return None
    R, S = workload.window
    return PanelSweep(
        panel_axis=1,
        panels=tile.vectors,
        steps=R * S * workload.channels,
        step_bytes=workload.lanes * 4,
        row_axes=(
            RowTiles(2, 1, workload.height),
            RowTiles(3, tile.rows, -(-workload.width // tile.rows)),
        ),
    )


def _accumulate(sch: Schedule, anchor: SBlockRV, workload: Conv2dWorkload) -> LoopRV:
    """Returns the innermost loop of the reduction."""
    n, o, h, w, lane, r, s, c = sch.get_loops(anchor)[-8:]
    reduction = [r, s, c]
    if workload.in_lanes > 1 and workload.channels % workload.in_lanes == 0:
        c_outer, c = sch.split(c, [None, workload.in_lanes])
        reduction = [c_outer, r, s, c]
    accumulate(sch, anchor, reduction, [n, h, w, o], lane)
    return reduction[-1]

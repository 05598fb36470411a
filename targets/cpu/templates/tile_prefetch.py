"""Prefetching of maps by Winograd's transforms: while one tile is transformed, a later one comes closer.

The pixels of a tile lie in several rows of the map, too short and too far from each other for the processor
to see where the next ones will be. The transforms do so little with each that they would wait for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from ....passes.compute.winograd import TileGrid
from ..prefetch import fetch_line
from .tile_walk import TilePlace, first_values

_NEAREST = 3  # The locality that LLVM gives the first-level cache.


@dataclass(frozen=True)
class MapSweep:
    """How the iterations of a loop go over the tiles of maps.

    Attributes:
        grid: the tiles.
        at: the tile of an iteration.
        image: the number of the axis of ``at.stage`` that counts maps.
        channels: of its axis that counts blocks of channels.
        shift: how far right of and below the tile lie the pixels that no earlier tile has used.
        distance: how many tiles before they are needed pixels are asked for.
    """

    grid: TileGrid
    at: TilePlace
    image: int
    channels: int
    shift: int
    distance: int


def fetch_tiles(sch: Schedule, loop: LoopRV, sweep: MapSweep, buffers: Sequence[tirx.Var]) -> None:
    """Has each iteration of ``loop`` ask for the pixels of a later iteration's tile.

    Args:
        sch: the schedule.
        loop: goes from tile to tile.
        sweep: how it does.
        buffers: what it reads or writes. Pixels are fetched of maps, [N, C/b, H, W, b], that are no smaller
            than a tile.
    """
    statement = sch.get(loop)
    values = first_values(statement, sch.get(sweep.at.stage))
    maps = [buffer for buffer in buffers if _is_map(buffer, sweep.grid.tiling.tile)]
    fetches = [fetch for pixels in maps for fetch in _fetches(pixels, sweep, values)]
    body = tirx.SeqStmt([*fetches, statement.body])
    fetching = tirx.For(
        statement.loop_var, statement.min, statement.extent, statement.kind, body, None, statement.annotations
    )
    sch.state.replace(sch.get_sref(loop), fetching)


def _is_map(buffer: tirx.Var, tile: int) -> bool:
    extents = list(buffer.shape)
    return len(extents) == 5 and all(
        isinstance(extent, tirx.IntImm) and int(extent) >= tile for extent in extents[2:4]
    )


def _fetches(pixels: tirx.Var, sweep: MapSweep, values: Sequence[tirx.Expr]) -> list[tirx.Stmt]:
    m = sweep.grid.tiling.tile
    corner = sweep.grid.corner(values[sweep.at.block], values[sweep.at.place] + sweep.distance)
    # What would end behind the map is fetched as if it ended with it, so that all addresses are valid.
    h, w = (
        tirx.min(first + sweep.shift, extent - m)
        for first, extent in zip(corner, pixels.shape[2:4], strict=True)
    )
    first_lane = tirx.const(0, "int64")

    def fetch(a: int, b: int) -> tirx.Stmt:
        place = [values[sweep.image], values[sweep.channels], h + a, w + b, first_lane]
        return fetch_line(tirx.BufferLoad(pixels, place), _NEAREST)

    return [fetch(a, b) for a in range(m) for b in range(m)]

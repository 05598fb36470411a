"""Whether Winograd's method pays for a convolution, and with which tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache

from ...passes.compute.winograd import WINDOW, Tiling
from ...passes.lower_winograd_conv2d import Conv2dExtents
from .machine import Machine
from .templates.register_tile import TileProblem, best_tile, cycles_per_product
from .templates.winograd_schedule import (
    GUARDED_ROWS,
    INPUT_CYCLES,
    MEMORY_BYTES,
    WinogradWorkload,
    least_cycles,
    turns,
)

LEAST_GAIN = {4: 1.05, 6: 1.2}
"""How much faster than direct convolution an estimate must be. Larger tiles make larger errors."""
MOST_TILES = 64
"""In a block: what more would save of weight traffic, it would lose by leaving the second-level cache."""


GUARDED_COUNTS = (16, 32)
"""Tiles in a block where the size of a map is not known. Those behind its end are left out, so that only the
second-level cache speaks for small blocks."""
SCALES = (Fraction(1, 2), Fraction(1), Fraction(2))
"""Of a map whose extents are guessed, for what it may be."""


@cache
def choose_tiling(extents: Conv2dExtents, machine: Machine) -> Tiling | None:
    """The tiling with the least estimated time; None if direct is faster."""
    if 0 in (extents.batch, extents.height, extents.width):
        return None  # a picture without elements has no tiles
    sizes = [_scaled(extents, scale) for scale in SCALES] if extents.guessed else [extents]
    direct = [direct_cycles(size, machine) for size in sizes]
    costs = {tiling: _relative_cost(sizes, direct, tiling, machine) for tiling in tilings(extents)}
    best = min(costs, key=costs.__getitem__)
    return best if costs[best] < 1 else None


def _scaled(extents: Conv2dExtents, scale: Fraction) -> Conv2dExtents:
    height, width = (max(1, round(extent * scale)) for extent in (extents.height, extents.width))
    return replace(extents, height=height, width=width)


def _relative_cost(
    sizes: Sequence[Conv2dExtents], direct: Sequence[float], tiling: Tiling, machine: Machine
) -> float:
    """The mean part of the cycles of ``direct`` convolution."""
    parts = (
        least_cycles(workload_of(size, tiling, machine), machine) / cycles
        for size, cycles in zip(sizes, direct, strict=True)
    )
    return LEAST_GAIN[tiling.tile] * sum(parts) / len(sizes)


def tilings(extents: Conv2dExtents) -> Iterator[Tiling]:
    """All ways to cut the output; where its extents are guessed, a few that suit many."""
    for tile in INPUT_CYCLES:
        counts = range(1, min(_tiles(extents, tile), MOST_TILES) + 1)
        for count in GUARDED_COUNTS if extents.guessed else counts:
            yield Tiling(tile, count)


def _tiles(extents: Conv2dExtents, tile: int) -> int:
    """Of one map."""
    return -(-extents.height // tile) * -(-extents.width // tile)


def workload_of(extents: Conv2dExtents, tiling: Tiling, machine: Machine) -> WinogradWorkload:
    """What the kernel of a convolution cut by ``tiling`` computes.

    Where extents are guessed, it leaves out tiles of a block that is larger than the map.
    """
    tiles = _tiles(extents, tiling.tile)
    existing = -(-tiles // GUARDED_ROWS) * GUARDED_ROWS if extents.guessed else tiling.count
    return WinogradWorkload(
        tiling.tile,
        min(tiling.count, existing),
        extents.batch * -(-tiles // tiling.count),
        extents.out_blocks,
        extents.channels,
        machine.lanes("float32"),
    )


def direct_cycles(extents: Conv2dExtents, machine: Machine) -> float:
    """The estimate for direct convolution, in which cores share the rows of all groups of output channels."""
    batch, height, width = extents.batch, extents.height, extents.width
    taps = WINDOW * WINDOW * extents.channels
    problem = TileProblem(width, extents.out_blocks, taps * machine.lanes("float32") * 4)
    tile = best_tile(problem, machine)
    groups = extents.out_blocks // tile.vectors
    rows = turns(batch * groups * height, machine.cores)
    weights = min(turns(rows, height), groups) * tile.vectors * problem.vector_bytes_reused
    products = rows * width * tile.vectors * taps
    return products * cycles_per_product(tile, problem, machine) + weights / MEMORY_BYTES

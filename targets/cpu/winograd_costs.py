"""Whether Winograd's method pays for a convolution, and with which tiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from ...passes.compute.winograd import WINDOW, Tiling
from ...passes.lower_winograd_conv2d import Conv2dExtents
from .machine import Machine
from .templates.register_tile import TileProblem, best_tile, cycles_per_product
from .templates.winograd_schedule import INPUT_CYCLES, MEMORY_BYTES, WinogradWorkload, least_cycles, turns

LEAST_GAIN = {4: 1.05, 6: 1.2}
"""How much faster than direct convolution an estimate must be. Larger tiles make larger errors."""
MOST_TILES = 64
"""In a block: what more would save of weight traffic, it would lose by leaving the second-level cache."""


@cache
def choose_tiling(extents: Conv2dExtents, machine: Machine) -> Tiling | None:
    """The tiling with the least estimated time; None if direct is faster, or an extent is symbolic."""
    if None in (extents.batch, extents.height, extents.width):
        return None
    costs = {tiling: _relative_cost(extents, tiling, machine) for tiling in tilings(extents)}
    if not costs:
        return None  # a picture without elements has no tiles
    best = min(costs, key=costs.__getitem__)
    return best if costs[best] < direct_cycles(extents, machine) else None


def _relative_cost(extents: Conv2dExtents, tiling: Tiling, machine: Machine) -> float:
    return LEAST_GAIN[tiling.tile] * least_cycles(workload_of(extents, tiling, machine), machine)


def tilings(extents: Conv2dExtents) -> Iterator[Tiling]:
    """All ways to cut the output; the batch and the output's height and width are known."""
    _, height, width = _known(extents)
    for tile in INPUT_CYCLES:
        down, across = -(-height // tile), -(-width // tile)
        for rows in range(1, min(down, MOST_TILES) + 1):
            for columns in range(1, min(across, MOST_TILES // rows) + 1):
                yield Tiling(tile, rows, columns)


def workload_of(extents: Conv2dExtents, tiling: Tiling, machine: Machine) -> WinogradWorkload:
    """What the kernel of a convolution cut by ``tiling`` computes."""
    batch, height, width = _known(extents)
    down, across = -(-height // (tiling.tile * tiling.rows)), -(-width // (tiling.tile * tiling.columns))
    return WinogradWorkload(
        tiling.tile,
        tiling.rows,
        tiling.columns,
        batch * down * across,
        extents.out_blocks,
        extents.channels,
        machine.lanes("float32"),
    )


def direct_cycles(extents: Conv2dExtents, machine: Machine) -> float:
    """The estimate for direct convolution, in which cores share the rows of all groups of output channels.

    The batch and the output's height and width are known.
    """
    batch, height, width = _known(extents)
    taps = WINDOW * WINDOW * extents.channels
    problem = TileProblem(width, extents.out_blocks, taps * machine.lanes("float32") * 4)
    tile = best_tile(problem, machine)
    groups = extents.out_blocks // tile.vectors
    rows = turns(batch * groups * height, machine.cores)
    weights = min(turns(rows, height), groups) * tile.vectors * problem.vector_bytes_reused
    products = rows * width * tile.vectors * taps
    return products * cycles_per_product(tile, problem, machine) + weights / MEMORY_BYTES


def _known(extents: Conv2dExtents) -> tuple[int, int, int]:
    batch, height, width = (_static(extent) for extent in (extents.batch, extents.height, extents.width))
    return batch, height, width


def _static(extent: int | None) -> int:
    assert extent is not None, "symbolic convolutions are direct"
    return extent

"""Whether Winograd's method pays for a convolution, and with which tiles.

The model counts cycles of one core. The products cost what the model of register tiles says; the transforms
and the streaming of weights have constants of their own, from measurements of two dozen layers with AVX-512.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...passes.compute.winograd import WINDOW, Tiling
from ...passes.lower_winograd_conv2d import Conv2dExtents
from .machine import Machine
from .templates.register_tile import TileProblem, cycles_per_product, tiles

INPUT_CYCLES = {4: 170.0, 6: 480.0}
"""To transform the input of a tile, for one vector of channels, by the extent of the tile."""
OUTPUT_CYCLES = {4: 170.0, 6: 480.0}
"""To transform a tile of one vector of output channels back."""
CACHED_BYTES = 16.0
"""Bytes of weights that a cycle brings from the last cache, for every block of tiles after the first."""
MEMORY_BYTES = 8.0
"""The same for the first: weights of a whole model come from memory."""
LEAST_GAIN = {4: 1.05, 6: 1.2}
"""How much faster than direct convolution an estimate must be. Larger tiles make larger errors."""
MOST_TILES = 64
"""In a block: what more would save of weight traffic, it would lose by leaving the second-level cache."""


@dataclass(frozen=True)
class _Cut:
    """A tiling of one convolution, and how many blocks of tiles there are."""

    tiling: Tiling
    blocks: int

    @property
    def tiles(self) -> int:
        return self.tiling.rows * self.tiling.columns


def choose_tiling(extents: Conv2dExtents, machine: Machine) -> Tiling | None:
    """The tiling with the least estimated time; None if direct is faster, or an extent is symbolic."""
    if None in (extents.batch, extents.height, extents.width):
        return None
    candidates = list(_cuts(*_known(extents)))
    if not candidates:
        return None  # a picture without elements has no tiles
    direct = direct_cycles(extents, machine)

    def relative(cut: _Cut) -> float:
        return winograd_cycles(extents, cut, machine) * LEAST_GAIN[cut.tiling.tile] / direct

    best = min(candidates, key=relative)
    return best.tiling if relative(best) < 1 else None


def direct_cycles(extents: Conv2dExtents, machine: Machine) -> float:
    """The estimate for direct convolution; the batch and the output's height and width are known."""
    batch, height, width = _known(extents)
    lanes = machine.lanes("float32")
    taps = WINDOW * WINDOW * extents.channels
    problem = TileProblem(width, extents.out_blocks, taps * lanes * 4)
    products = batch * height * width * extents.out_blocks * taps
    weights = extents.out_blocks * lanes * taps * 4
    return products * _least_cost(problem, machine) + weights / MEMORY_BYTES


def winograd_cycles(extents: Conv2dExtents, cut: _Cut, machine: Machine) -> float:
    """The estimate for ``cut``."""
    lanes, tile = machine.lanes("float32"), cut.tiling.tile
    positions = (tile + WINDOW - 1) ** 2
    problem = TileProblem(cut.tiles, extents.out_blocks, extents.channels * lanes * 4, whole_rows=True)
    products = positions * extents.out_blocks * extents.channels * _least_cost(problem, machine)
    in_blocks = -(-extents.channels // lanes)
    transforms = INPUT_CYCLES[tile] * in_blocks + OUTPUT_CYCLES[tile] * extents.out_blocks
    weights = positions * extents.out_blocks * lanes * extents.channels * 4
    again = (cut.blocks - 1) * weights / CACHED_BYTES if weights > machine.l2_bytes // 2 else 0.0
    work = cut.blocks * cut.tiles * (products + transforms) * _imbalance(cut.blocks, machine.cores)
    return work + weights / MEMORY_BYTES + again


def _imbalance(blocks: int, cores: int) -> float:
    """How much longer the last core works than all do on average; few blocks are shared evenly."""
    return 1.0 if blocks < 2 * cores else -(-blocks // cores) * cores / blocks


def _known(extents: Conv2dExtents) -> tuple[int, int, int]:
    batch, height, width = (_static(extent) for extent in (extents.batch, extents.height, extents.width))
    return batch, height, width


def _static(extent: int | None) -> int:
    assert extent is not None, "symbolic convolutions are direct"
    return extent


def _least_cost(problem: TileProblem, machine: Machine) -> float:
    return min(cycles_per_product(tile, problem, machine) for tile in tiles(problem, machine))


def _cuts(batch: int, height: int, width: int) -> Iterator[_Cut]:
    for tile in INPUT_CYCLES:
        down, across = -(-height // tile), -(-width // tile)
        for rows in range(1, min(down, MOST_TILES) + 1):
            for columns in range(1, min(across, MOST_TILES // rows) + 1):
                blocks = batch * -(-down // rows) * -(-across // columns)
                yield _Cut(Tiling(tile, rows, columns), blocks)

"""How long a product takes on tiles of AMX, to choose among its schedules.

The numbers are Intel's for Sapphire Rapids (Intel 64 and IA-32 Architectures Optimization Reference Manual,
chapter on AMX): a product of full tiles every 16 cycles with a latency of 52, and 48 bytes a cycle from the
second-level cache. None of them could be fitted to measurements yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...passes.compute.pairs import CONV2D_TILES, TILE_ROWS
from .machine import Machine

ACCUMULATORS = 4
"""Tiles that hold sums; the other four hold operands."""
_PRODUCT_CYCLES, _LATENCY = 16, 52
_CYCLES_A_LINE = 64 / 48
_TASK_CYCLES = 100
"""To begin a task."""


@dataclass(frozen=True)
class TileWorkload:
    """Products on tiles.

    Attributes:
        kind: ``CONV2D_TILES`` or ``MATMUL_TILES``.
        products: matrices in a batch, or images, as far as known.
        height: rows of a convolution's result; 1 for a matrix.
        width: positions in a row of the result; all rows of a matrix, None where symbolic.
        pitch: from a row of the result to the next, if tiles may go from row to row; else 0.
        panels: blocks of columns, or of output channels.
        lanes: columns in a panel.
        steps: tiles in a sum.
        whole_panels: whether the last panel is full.
        has_constant_weights: whether panels were packed when compiling.
    """

    kind: str
    products: int
    height: int
    width: int | None
    pitch: int
    panels: int
    lanes: int
    steps: int
    whole_panels: bool
    has_constant_weights: bool

    @property
    def is_map(self) -> bool:
        """Whether tasks are rows of a map, of which there may be a single one; else rows of a matrix."""
        return self.kind == CONV2D_TILES

    def positions(self, height: int) -> int:
        """Positions that so many rows of a convolution's result cover."""
        return (height - 1) * self.pitch + (self.width or 0)

    def sweep_rows(self, config: TileConfig) -> int:
        """Rows of tiles' operands that meet a group of panels before the next one; 0 if that is not known."""
        if self.width is None:
            return 0
        if self.is_map:
            return self.height // config.task * self.positions(config.task)
        return min(config.sweep * config.task, self.width) if config.sweep else self.width


@dataclass(frozen=True)
class TileConfig:
    """A schedule.

    Attributes:
        rows: of a tile.
        row_tiles: how many tiles of rows meet a group of panels at once.
        panels: in a group.
        task: rows of a matrix, or of a convolution's result, that one task computes.
        sweep: tasks that meet a group of panels before the next group; 0 for all.
    """

    rows: int
    row_tiles: int
    panels: int
    task: int
    sweep: int


def cycles(workload: TileWorkload, config: TileConfig, machine: Machine) -> float:
    """Of the busiest core, estimated."""
    groups = workload.products * workload.panels // config.panels
    if workload.width is None:
        return -config.row_tiles * config.panels
    if workload.is_map:
        tasks, rest = divmod(workload.height, config.task)
        positions = workload.positions(config.task)
    else:
        tasks, rest = divmod(workload.width, config.task)
        positions = config.task
    work = tasks * _task(workload, config, positions) + (_task(workload, config, rest) if rest else 0)
    parallel = groups * (tasks + bool(rest))
    rounds = -(-parallel // machine.cores)
    return groups * work * rounds / parallel + _reread(workload, config, machine)


def _task(workload: TileWorkload, config: TileConfig, positions: int) -> float:
    tiles = -(-positions // config.rows)
    blocks, rest = divmod(tiles, config.row_tiles)
    whole = blocks * _block(workload, config, config.row_tiles)
    return _TASK_CYCLES + whole + (_block(workload, config, rest) if rest else 0)


def _block(workload: TileWorkload, config: TileConfig, row_tiles: int) -> float:
    columns = config.panels * workload.lanes // TILE_ROWS
    # Whether fewer rows make a product faster is not documented: half of it is assumed.
    products = row_tiles * columns * (_PRODUCT_CYCLES + config.rows) / 2
    loads = _CYCLES_A_LINE * (row_tiles * config.rows + columns * TILE_ROWS)
    step = max(products, loads, _LATENCY / 2) + min(products, loads) / 4
    return workload.steps * step + row_tiles * columns * TILE_ROWS + _LATENCY


def _reread(workload: TileWorkload, config: TileConfig, machine: Machine) -> float:
    """What it takes to read operands again that have left the second-level cache, at a third of its speed."""
    assert workload.width is not None
    panel_bytes = workload.panels * workload.steps * workload.lanes * TILE_ROWS * 4
    rows = workload.width * max(workload.height, 1)
    row_bytes = rows * workload.steps * TILE_ROWS * 4
    if workload.is_map or row_bytes <= machine.l2_bytes // 2:
        return 0.0
    if not config.sweep:
        return workload.panels / config.panels * row_bytes / 16
    return math.ceil(rows / (config.sweep * config.task)) * panel_bytes / 16

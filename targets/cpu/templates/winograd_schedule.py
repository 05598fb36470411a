"""The choices of a Winograd kernel's schedule, and what they cost.

The model counts cycles from the start of the kernel until its last thread is done. Products cost what the
model of register tiles says; the transforms, the streaming of weights and the meeting of threads have
constants of their own, from measurements of two dozen layers with AVX-512, and of a few with AVX2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ....passes.compute.winograd import WINDOW
from ..machine import Machine
from .register_tile import RegisterTile, TileProblem, cycles_per_product, tiles

INPUT_CYCLES = {4: 230.0, 6: 650.0}
"""To transform the input of a tile, for one vector of channels, by the extent of the tile."""
OUTPUT_CYCLES = {4: 230.0, 6: 650.0}
"""To transform a tile of one vector of output channels back."""
CACHED_BYTES = 16.0
"""Bytes that a cycle brings from the last cache: weights read before, and what other cores wrote."""
MEMORY_BYTES = 8.0
"""The same for weights that a kernel reads for the first time: those of a whole model come from memory."""
HIDDEN = {64: 0.0, 32: 1.0}
"""The part of the products' time in which weights come from the last cache at no cost, by the bytes of a
vector: narrow products ask for half as much in a cycle."""
MEETING_CYCLES = 6000.0
"""Until all threads have heard that the next loop begins."""
ASSUMED_BLOCKS = 8
"""Blocks of tiles in a picture whose size is not known."""
GUARDED_ROWS = 8
"""The most tiles in registers where the size of a map is not known: all are computed if one exists."""
_WIDEST = 64
AHEAD = (0, 2, 4)
"""Tiles ahead. Fetched so early, maps that lay in the last cache took 7 % less of a convolution's time, and
those in the second one took no more."""
COST_TOLERANCE = 0.02
"""Schedules whose estimates differ by less ran equally fast; the smaller tiles make less code."""


@dataclass(frozen=True)
class WinogradWorkload:
    """A convolution by F(m x m, 3 x 3).

    Attributes:
        tile: m.
        tiles: in a block.
        blocks: of tiles, in all pictures of the batch; None where that is symbolic.
        out_blocks: output channels, in vectors.
        channels: input channels.
        lanes: of an output and of an input block.
    """

    tile: int
    tiles: int
    blocks: int | None
    out_blocks: int
    channels: int
    lanes: int

    @property
    def expected_blocks(self) -> int:
        """Their number, or a guess."""
        return ASSUMED_BLOCKS if self.blocks is None else self.blocks

    @property
    def positions(self) -> int:
        """Of a transformed tile."""
        return (self.tile + WINDOW - 1) ** 2

    @property
    def in_blocks(self) -> int:
        """Input channels, in vectors."""
        return -(-self.channels // self.lanes)


@dataclass(frozen=True)
class WinogradConfig:
    """The schedule.

    Attributes:
        tile: the accumulators of the products: tiles of the picture by output-channel blocks.
        shared: whether all of the input is transformed before the first product, so that threads can share
            the output channels of one block. Else threads share the blocks only.
        prefetch: whether the next position's weights are fetched early.
        ahead: how many tiles before its turn the pixels of a tile are fetched, by both transforms; 0: never.
    """

    tile: RegisterTile
    shared: bool
    prefetch: bool
    ahead: int


def configs(workload: WinogradWorkload, machine: Machine) -> Iterator[WinogradConfig]:
    """All schedules. Where the size of a map is not known, pixels are not fetched early."""
    distances = (0,) if workload.blocks is None else AHEAD
    for tile in tiles(_problem(workload), machine):
        if workload.blocks is None and tile.rows > GUARDED_ROWS:
            continue
        for shared, prefetch, ahead in itertools.product((False, True), (False, True), distances):
            yield WinogradConfig(tile, shared, prefetch, ahead)


def best_config(workload: WinogradWorkload, machine: Machine) -> WinogradConfig:
    """The schedule with the smallest tile whose estimated time is next to the least, without prefetching."""
    plain = (c for c in configs(workload, machine) if not c.prefetch and not c.ahead)
    costs = {config: cycles(workload, config, machine) for config in plain}
    enough = (1 + COST_TOLERANCE) * min(costs.values())
    return min(
        (config for config, cost in costs.items() if cost <= enough),
        key=lambda config: (config.tile.rows * config.tile.vectors, costs[config]),
    )


def least_cycles(workload: WinogradWorkload, machine: Machine) -> float:
    """The estimate for the fastest schedule."""
    return min(cycles(workload, config, machine) for config in configs(workload, machine))


def cycles(workload: WinogradWorkload, config: WinogradConfig, machine: Machine) -> float:
    """The estimate for one call on all cores; the busiest one counts."""
    vectors = config.tile.vectors
    groups = workload.out_blocks // vectors
    narrowness = _WIDEST / machine.vector_bytes  # transforms take as long as it takes to move the bytes
    transform = INPUT_CYCLES[workload.tile] * workload.tiles / narrowness
    per_product = cycles_per_product(config.tile, _problem(workload), machine)
    products = workload.tiles * vectors * workload.positions * workload.channels * per_product
    group = products + workload.tiles * vectors * OUTPUT_CYCLES[workload.tile] / narrowness
    group += _input_cycles(workload, machine)
    hidden = HIDDEN.get(machine.vector_bytes, 1.0) * products
    if not config.shared:
        blocks = turns(workload.expected_blocks, machine.cores)
        compute = blocks * (workload.in_blocks * transform + groups * group)
        return compute + _weight_cycles(workload, blocks * groups, vectors, hidden, machine)
    visits = turns(workload.expected_blocks * groups, machine.cores)
    compute = turns(workload.expected_blocks * workload.in_blocks, machine.cores) * transform + visits * group
    return (
        compute
        + _weight_cycles(workload, visits, vectors, hidden, machine)
        + _handing_over_cycles(workload, turns(visits, groups), machine)
    )


def turns(iterations: int, cores: int) -> int:
    """How many of a parallel loop's iterations the busiest core takes."""
    return -(-iterations // cores)


def _weight_cycles(
    workload: WinogradWorkload, visits: int, vectors: int, hidden: float, machine: Machine
) -> float:
    """To bring the weights of a group of ``vectors`` output-channel blocks to a core, ``visits`` times, of
    which all but the first for each group have ``hidden`` cycles at no cost."""
    step = workload.positions * workload.channels * workload.lanes * 4
    groups = workload.out_blocks // vectors
    first = min(visits, groups) * vectors * step / MEMORY_BYTES
    if workload.out_blocks * step <= machine.l2_bytes // 2:
        return first
    return first + max(0, visits - groups) * max(0.0, vectors * step / CACHED_BYTES - hidden)


def _input_cycles(workload: WinogradWorkload, machine: Machine) -> float:
    """To read a block of transformed tiles again, for each group, where it does not stay close to the core.

    Wide vectors have so few groups that this was not seen in measurements.
    """
    block = workload.positions * workload.tiles * workload.in_blocks * workload.lanes * 4
    wide = machine.vector_bytes == _WIDEST
    return 0.0 if wide or block <= machine.l2_bytes // 2 else block / CACHED_BYTES


def _handing_over_cycles(workload: WinogradWorkload, blocks: int, machine: Machine) -> float:
    """To wait for the other cores, and to bring what they transformed of ``blocks`` blocks to a core."""
    one = workload.positions * workload.tiles * workload.in_blocks * workload.lanes * 4
    all_blocks = one * workload.expected_blocks
    foreign = 1.0 if all_blocks > machine.l2_bytes // 2 else 1 - 1 / machine.cores
    meeting = MEETING_CYCLES if machine.cores > 1 else 0.0
    return meeting + foreign * blocks * one / CACHED_BYTES


def _problem(workload: WinogradWorkload) -> TileProblem:
    """The matrix products: tiles of a block by output channels. A register tile divides the tiles."""
    return TileProblem(
        rows=workload.tiles,
        vectors=workload.out_blocks,
        vector_bytes_reused=workload.channels * workload.lanes * 4,
        whole_rows=True,
    )

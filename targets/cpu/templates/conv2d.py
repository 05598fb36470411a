"""Direct convolution on blocked layouts.

A tile of output columns times output-channel blocks stays in registers while the kernel walks over the
input channels and the window; the epilogue runs on the tile before it is written, once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute.divisors import divisors
from ..machine import Machine
from ..prefetch import PanelSweep, RowTiles, mark_prefetch
from .blocks import (
    anchor_block,
    inline_epilogue,
    is_parameter,
    loop_extents,
    parallelise_nest,
)
from .half_sums import accumulate_half_sums, multiplication_of
from .register_kernel import STAGING_STEPS, accumulate, place_tile
from .register_tile import RegisterTile, TileProblem, best_tile, tiles
from .spatial import compute_within, padding_block, schedule_rest

KIND = "conv2d_nchwc"


@dataclass(frozen=True)
class Conv2dWorkload:
    """A convolution: images, output channel blocks, output height and width (None if symbolic), window, input
    channels, the lanes of an output and of an input block (1 where the input is not blocked), and whether the
    kernel pads the input. Where there are short sums of ``terms`` products, window and channels count those.
    ``weight_bytes`` is what a lane reads for one."""

    images: int | None
    out_blocks: int
    height: int | None
    width: int | None
    window: tuple[int, int]
    channels: int
    lanes: int
    in_lanes: int
    padded: bool
    terms: int = 1
    weight_bytes: int = 4


@dataclass(frozen=True)
class Conv2dConfig:
    """A schedule.

    Attributes:
        tile: the accumulators in a row of the output: columns by output-channel blocks.
        height: in how many rows of the output a tile has accumulators.
        bands: how many bands of rows the output is cut into. All output channels of a band are computed
            before the next band, and all rows of some channels in it before the next channels.
        strips: whether each band pads the rows of the input that it needs, on the thread that reads them, not
            the kernel all rows at its start.
        images_inside: whether some channels of all images are computed before the next channels.
        staged: see ``place_tile``.
        window_inside: whether a block of input channels goes through the whole window before the next block.
        unroll: reduction steps in the body of the innermost loop.
        prefetch: whether the next channels' weights are fetched early.
    """

    tile: RegisterTile
    height: int
    bands: int
    strips: bool
    images_inside: bool
    staged: bool
    window_inside: bool
    unroll: int
    prefetch: bool


_FEW_BANDS = 3
"""Finer cuts than the coarsest ones were never better."""
_MOST_IMBALANCE = 1.05
"""How much longer than the mean a thread may take."""
_BAND_ROWS = 5
"""Bands with as many rows spend little on the rows of the input that two bands need."""


class Conv2dTemplate:
    """See the module's description."""

    name = "conv2d"
    version = 3

    def matches(self, sch: Schedule) -> Conv2dWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        images, out_blocks, _, _, lanes, R, S, C = loop_extents(sch, anchor)
        height, width = _rows_and_columns(sch, anchor)
        made = multiplication_of(sch, anchor)
        source, weights = (read.source for read in sch.get(made.block).reads[:2])
        padded = not is_parameter(sch, source)
        in_lanes = int(source.shape[4]) if len(source.shape) == 5 else 1
        in_lanes = max(1, in_lanes // (2 if weights.dtype == "int32" else made.terms))  # pairs, or short sums
        if out_blocks is None or lanes is None or R is None or S is None or C is None:
            return None
        extents = images, out_blocks, height, width, (R, S), C, lanes, in_lanes
        return Conv2dWorkload(*extents, padded, made.terms, made.weight_bytes)

    def space(self, workload: Conv2dWorkload, machine: Machine) -> Iterator[Conv2dConfig]:
        for tile, height in _tiles(workload, machine):
            choices = itertools.product(
                _orders(workload, tile, height, machine),
                _stagings(workload, tile),
                _window_orders(workload),
                _unrollings(workload),
            )
            for (bands, strips, images_inside), staged, window_inside, unroll in choices:
                config = Conv2dConfig(
                    tile, height, bands, strips, images_inside, staged, window_inside, unroll, prefetch=False
                )
                yield config
                if _prefetchable(workload, config):
                    yield replace(config, prefetch=True)

    def default(self, workload: Conv2dWorkload, machine: Machine) -> Conv2dConfig:
        tile = best_tile(_problem(workload), machine)
        long = _steps(workload) * workload.terms >= STAGING_STEPS
        staged = True in _stagings(workload, tile) and long
        bands = _strip_bands(workload, tile, machine)
        config = Conv2dConfig(
            tile,
            height=1,
            bands=bands,
            strips=bands > 1,
            images_inside=bands == 1 and _weights_outweigh_images(workload, tile, machine),
            staged=staged or False not in _stagings(workload, tile),
            # Window outside: the weights are read in the order in which they lie in memory.
            window_inside=_window_orders(workload)[0],
            unroll=1,
            prefetch=False,
        )
        sweep = _sweep(workload, config)
        # The weights of the second band and those behind it come from the cache already.
        return replace(config, prefetch=bands == 1 and sweep is not None and sweep.gains_from_prefetching)

    def apply(self, sch: Schedule, workload: Conv2dWorkload, config: Conv2dConfig) -> None:
        anchor = anchor_block(sch, KIND)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        multiplying = multiplication_of(sch, anchor).block
        strip = [padding_block(sch, multiplying, last)] if config.strips else []
        schedule_rest(sch, anchor, last, multiplying, *strip)
        outer = _tile(sch, anchor, last, config)
        step = _accumulate(sch, anchor, workload, config)
        accumulate_half_sums(sch, anchor, step)
        for block in strip:
            compute_within(sch, block, outer)
        sweep = _sweep(workload, config)
        if config.prefetch and sweep is not None:
            mark_prefetch(sch, step, sweep)


def _rows_and_columns(sch: Schedule, anchor: SBlockRV) -> tuple[int | None, int | None]:
    """The extents of the output map, or 1 and their product where ``anchor`` takes the map as one row."""
    (crop,) = sch.get_consumers(anchor)
    _, _, height, width, _ = loop_extents(sch, crop)
    if height is None or width is None or not _is_flat(sch, anchor, crop):
        return height, width
    return 1, height * width


def _is_one_row(height: int | None, width: int | None) -> bool:
    """Whether threads share the tiles of a row, as there are no rows to share."""
    return height == 1 and width is not None


def _is_flat(sch: Schedule, anchor: SBlockRV, consumer: SBlockRV) -> bool:
    """Whether ``anchor`` takes as one row what is a map to ``consumer``."""
    rows, rows_of_map = (loop_extents(sch, block)[2] for block in (anchor, consumer))
    return rows == 1 and rows_of_map != 1


def _tiles(workload: Conv2dWorkload, machine: Machine) -> Iterator[tuple[RegisterTile, int]]:
    """Tiles in one row of the output and in several; no tile overruns the output's height."""
    problem = _problem(workload)
    most = {tile.vectors: tile.rows for tile in tiles(replace(problem, rows=None), machine)}
    for tile in tiles(problem, machine):
        for height in (1, 2, 3, 4, 7):
            fits = tile.rows * height <= most.get(tile.vectors, 0)
            if height == 1 or (workload.height is not None and workload.height % height == 0 and fits):
                yield tile, height


def _stagings(workload: Conv2dWorkload, tile: RegisterTile) -> tuple[bool, ...]:
    exact = workload.width is not None and workload.width % tile.rows == 0
    return (False, True) if exact else (True,)


def _window_orders(workload: Conv2dWorkload) -> tuple[bool, ...]:
    R, S = workload.window
    if not _is_blocked(workload):
        return (False,)
    return (False, True) if R * S > 1 and workload.channels > workload.in_lanes else (True,)


def _unrollings(workload: Conv2dWorkload) -> tuple[int, ...]:
    inner = workload.in_lanes if _is_blocked(workload) else workload.channels
    return tuple(steps for steps in (1, 2, 4) if (inner % steps == 0 and steps < inner) or steps == 1)


def _orders(
    workload: Conv2dWorkload, tile: RegisterTile, height: int, machine: Machine
) -> Iterator[tuple[int, bool, bool]]:
    """The values of ``bands``, ``strips`` and ``images_inside``."""
    yield 1, False, False
    if (workload.images or 1) > 1:
        yield 1, False, True
    for bands in _bands(workload, tile, height, machine):
        # Where threads can pad their own bands, padding everything first was never better.
        strips = workload.padded and workload.height != 1 and _is_balanced(bands, workload, machine)
        yield bands, strips, False


def _bands(workload: Conv2dWorkload, tile: RegisterTile, height: int, machine: Machine) -> list[int]:
    """The smallest numbers of equal bands that give all threads as much to do; and a band for each tile.

    A single row is cut between its tiles.
    """
    if workload.images is None or workload.height is None:
        return []
    rows = workload.height // height
    if workload.height == 1 and workload.width is not None:
        rows = -(-workload.width // tile.rows)
    counts = divisors(rows)[1:]
    balanced = [bands for bands in counts if _is_balanced(bands, workload, machine)]
    return sorted({*balanced[:_FEW_BANDS], *counts[-1:]})


def _strip_bands(workload: Conv2dWorkload, tile: RegisterTile, machine: Machine) -> int:
    """In how many bands the default pads the input; 1 where it is better padded at once.

    A thread that pads what it reads finds it in its own cache, and waits for nobody. But it goes through all
    weights for every band.
    """
    weights = workload.out_blocks * _weight_bytes(workload)
    if not workload.padded or workload.height is None or weights > machine.l2_bytes:
        return 1
    balanced = [b for b in _bands(workload, tile, 1, machine) if _is_balanced(b, workload, machine)]
    return max((b for b in balanced if workload.height // b >= _BAND_ROWS), default=1)


def _is_balanced(bands: int, workload: Conv2dWorkload, machine: Machine) -> bool:
    """Whether threads that take whole bands of rows have about as much to do as each other."""
    count = bands * (workload.images or 1)
    return -(-count // machine.cores) * machine.cores <= _MOST_IMBALANCE * count


def _weights_outweigh_images(workload: Conv2dWorkload, tile: RegisterTile, machine: Machine) -> bool:
    """Whether reading the weights once for each image moves more than reading the images once for each group
    of channels."""
    if workload.images is None or workload.height is None or workload.width is None:
        return False
    maps = workload.images * workload.height * workload.width * workload.channels * 4
    weights = workload.out_blocks * _weight_bytes(workload)
    again = workload.out_blocks // tile.vectors if maps > machine.l2_bytes // 2 else 1
    return workload.images * weights + maps > 1.3 * (weights + again * maps)


def _prefetchable(workload: Conv2dWorkload, config: Conv2dConfig) -> bool:
    """Whether a sweep over the rows has time to fetch the next channels' weights."""
    sweep = _sweep(workload, config)
    return sweep is not None and sweep.lines_per_tile <= sweep.steps


def _is_blocked(workload: Conv2dWorkload) -> bool:
    """Whether the reduction can go through the input block by block."""
    return workload.in_lanes > 1 and workload.channels % workload.in_lanes == 0


def _steps(workload: Conv2dWorkload) -> int:
    R, S = workload.window
    return R * S * workload.channels


def _weight_bytes(workload: Conv2dWorkload) -> int:
    """Of an output-channel block."""
    return _steps(workload) * workload.lanes * workload.weight_bytes


def _problem(workload: Conv2dWorkload) -> TileProblem:
    return TileProblem(
        rows=workload.width,
        vectors=workload.out_blocks,
        vector_bytes_reused=_weight_bytes(workload),
    )


def _tile(sch: Schedule, anchor: SBlockRV, last: SBlockRV, config: Conv2dConfig) -> LoopRV:
    """Returns the loop whose iterations run in parallel."""
    _take_map_as_anchor_does(sch, anchor, last)
    one_row = _is_one_row(*loop_extents(sch, last)[2:4])
    n, o, h, w, lane = sch.get_loops(last)
    o, o_inner = sch.split(o, [None, config.tile.vectors])
    w, w_inner = sch.split(w, [None, config.tile.rows])
    inner = [w_inner, o_inner, lane]
    if config.height > 1:
        h, h_inner = sch.split(h, [None, config.height])
        inner = [h_inner, *inner]
    sch.reorder(n, o, h, w, *inner)
    if one_row:
        h = sch.fuse(h, w)
    if config.images_inside:
        sch.reorder(o, n)
        outer = parallelise_nest(sch, [o, n, h])
    elif config.bands > 1:
        band, h = sch.split(h, [config.bands, None])
        sch.reorder(band, o, h)
        outer = parallelise_nest(sch, [n, band] if config.strips else [n, band, o, h])
    else:
        outer = parallelise_nest(sch, [n, o, h])
    place_tile(sch, anchor, last, outer if one_row else w, staged=config.staged)
    return outer


def _take_map_as_anchor_does(sch: Schedule, anchor: SBlockRV, last: SBlockRV) -> None:
    """Has the epilogue ``last`` go over the map as one row where ``anchor`` does so."""
    if not _is_flat(sch, anchor, last):
        return
    columns, first = loop_extents(sch, last)[3], tirx.const(0, "int32")
    sch.transform_block_layout(last, lambda n, o, h, w, lane: (n, o, first, h * columns + w, lane))


def _sweep(workload: Conv2dWorkload, config: Conv2dConfig) -> PanelSweep | None:
    """How the tiles of an output-channel block go over its weights; None where extents are symbolic, and
    where a step takes several lines of weights, as the processor then fetches ahead by itself."""
    if workload.height is None or workload.width is None or workload.terms > 1:
        return None
    images = (workload.images or 1) if config.images_inside else 1
    down, across = workload.height // config.height, -(-workload.width // config.tile.rows)
    if _is_one_row(workload.height, workload.width):
        across //= config.bands
    else:
        down //= config.bands
    return PanelSweep(
        panel_axis=1,
        panels=config.tile.vectors,
        steps=_steps(workload),
        step_bytes=workload.lanes * workload.weight_bytes,
        row_axes=(
            *((RowTiles(0, 1, images),) if images > 1 else ()),
            RowTiles(2, config.height, down),
            RowTiles(3, config.tile.rows, across),
        ),
    )


def _accumulate(sch: Schedule, anchor: SBlockRV, workload: Conv2dWorkload, config: Conv2dConfig) -> LoopRV:
    """Returns the innermost loop of the reduction."""
    n, o, h, w, lane, r, s, c = sch.get_loops(anchor)[-8:]
    reduction = [r, s, c]
    if _is_blocked(workload):
        c_outer, c = sch.split(c, [None, workload.in_lanes])
        reduction = [c_outer, r, s, c] if config.window_inside else [r, s, c_outer, c]
    if config.unroll > 1:
        c, step = sch.split(c, [None, config.unroll])
        reduction = [*reduction[:-1], c, step]
    accumulate(sch, anchor, reduction, [n, h, w, o], lane)
    if config.unroll > 1:
        sch.unroll(reduction[-1])
    return reduction[-1]

"""Depthwise convolution on blocked layouts: a row of output columns in registers, the window unrolled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule

from ....passes.compute.divisors import divisors
from ..machine import Machine
from .blocks import anchor_block, inline_epilogue, is_parameter, loop_extents, parallelise_nest
from .register_kernel import accumulate, place_tile
from .register_tile import MAX_ROWS
from .spatial import compute_within, padding_block, schedule_rest

KIND = "depthwise_conv2d_nchwc"
_BAND_ROWS = 4
"""Bands with as many rows spend little on the rows of the input that two bands need."""


@dataclass(frozen=True)
class DepthwiseWorkload:
    """A depthwise convolution: its output height and width (None if symbolic), its window, and whether the
    kernel pads the input."""

    height: int | None
    width: int | None
    window: tuple[int, int]
    padded: bool


@dataclass(frozen=True)
class DepthwiseConfig:
    """A schedule.

    Attributes:
        columns: how many output columns are computed at once.
        height: in how many rows of the output.
        staged: see ``place_tile``.
        bands: into how many bands the rows of a channel block are cut, each of which pads the rows of the
            input that it needs; 0 if the kernel pads everything at its start.
        unroll_window: whether the rows of the window are unrolled, too, not its columns alone.
    """

    columns: int
    height: int
    staged: bool
    bands: int
    unroll_window: bool


class DepthwiseConv2dTemplate:
    """See the module's description."""

    name = "depthwise_conv2d"
    version = 2

    def matches(self, sch: Schedule) -> DepthwiseWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        *_, R, S = loop_extents(sch, anchor)
        (crop,) = sch.get_consumers(anchor)
        if R is None or S is None:
            return None
        _, _, height, width, _ = loop_extents(sch, crop)
        padded = not is_parameter(sch, sch.get(anchor).reads[0].source)
        return DepthwiseWorkload(height, width, (R, S), padded)

    def space(self, workload: DepthwiseWorkload, machine: Machine) -> Iterator[DepthwiseConfig]:
        for columns in _columns(workload, machine):
            for height in (1, 2, 3, 4, 7):
                fits = columns * height <= machine.vector_registers // 2 + 8
                whole = workload.height is not None and workload.height % height == 0
                if height == 1 or (fits and whole):
                    choices = itertools.product(
                        _stagings(workload, columns), _bands(workload, height), (False, True)
                    )
                    yield from (DepthwiseConfig(columns, height, *choice) for choice in choices)

    def default(self, workload: DepthwiseWorkload, machine: Machine) -> DepthwiseConfig:
        def waste(columns: int) -> tuple[float, int]:
            if workload.width is None:
                return abs(columns - 8), 0
            tiles = -(-workload.width // columns)
            return tiles * columns / workload.width + 0.5 / columns, -columns

        columns = min(_columns(workload, machine), key=waste)
        bands = max((b for b in _bands(workload, 1) if _rows(workload, b) >= _BAND_ROWS), default=0)
        return DepthwiseConfig(columns, 1, _stagings(workload, columns)[0], bands, unroll_window=False)

    def apply(self, sch: Schedule, workload: DepthwiseWorkload, config: DepthwiseConfig) -> None:
        anchor = anchor_block(sch, KIND)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        strip = [padding_block(sch, anchor, last)] if config.bands else []
        schedule_rest(sch, anchor, last, *strip)
        n, o, h, w, lane = sch.get_loops(last)
        w, w_inner = sch.split(w, [None, config.columns])
        if config.height > 1:
            h, h_inner = sch.split(h, [None, config.height])
            sch.reorder(h, w, h_inner, w_inner)
        if config.bands:
            h, _ = sch.split(h, [config.bands, None])
        task = parallelise_nest(sch, [n, o, h])
        place_tile(sch, anchor, last, w, staged=config.staged)
        for block in strip:
            compute_within(sch, block, task)
        n, o, h, w, lane, r, s = sch.get_loops(anchor)[-7:]
        sch.unroll(s)
        accumulate(sch, anchor, [r, s], [n, o, h, w], lane)
        if config.unroll_window:
            sch.unroll(r)


def _rows(workload: DepthwiseWorkload, bands: int) -> float:
    """Of the output in a band."""
    return (workload.height or 0) / bands if bands else math.inf


def _bands(workload: DepthwiseWorkload, height: int) -> list[int]:
    """0, and where the kernel pads, the numbers of equal bands into which tiles of ``height`` rows fall."""
    if not workload.padded or workload.height is None:
        return [0]
    tiles = workload.height // height
    return [0, *divisors(tiles)]


def _columns(workload: DepthwiseWorkload, machine: Machine) -> range:
    return range(1, min(workload.width or MAX_ROWS, machine.vector_registers // 2) + 1)


def _stagings(workload: DepthwiseWorkload, columns: int) -> tuple[bool, ...]:
    exact = workload.width is not None and workload.width % columns == 0
    return (False, True) if exact else (True,)

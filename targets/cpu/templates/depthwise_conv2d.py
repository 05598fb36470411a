"""Depthwise convolution on blocked layouts: a row of output columns in registers, the window unrolled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule

from ..machine import Machine
from .blocks import anchor_block, inline_epilogue, loop_extents, parallelise_nest
from .register_kernel import accumulate, place_tile
from .register_tile import MAX_ROWS
from .spatial import schedule_rest

KIND = "depthwise_conv2d_nchwc"


@dataclass(frozen=True)
class DepthwiseWorkload:
    """A depthwise convolution: its output height and width (None if symbolic) and its window."""

    height: int | None
    width: int | None
    window: tuple[int, int]


@dataclass(frozen=True)
class DepthwiseConfig:
    """A schedule.

    Attributes:
        columns: how many output columns are computed at once.
        height: in how many rows of the output.
        staged: see ``place_tile``.
        unroll_window: whether the rows of the window are unrolled, too, not its columns alone.
    """

    columns: int
    height: int
    staged: bool
    unroll_window: bool


class DepthwiseConv2dTemplate:
    """See the module's description."""

    name = "depthwise_conv2d"
    version = 1

    def matches(self, sch: Schedule) -> DepthwiseWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        *_, R, S = loop_extents(sch, anchor)
        (crop,) = sch.get_consumers(anchor)
        if R is None or S is None:
            return None
        _, _, height, width, _ = loop_extents(sch, crop)
        return DepthwiseWorkload(height, width, (R, S))

    def space(self, workload: DepthwiseWorkload, machine: Machine) -> Iterator[DepthwiseConfig]:
        for columns in _columns(workload, machine):
            for height in (1, 2, 3, 4, 7):
                fits = columns * height <= machine.vector_registers // 2 + 8
                whole = workload.height is not None and workload.height % height == 0
                if height == 1 or (fits and whole):
                    for staged in _stagings(workload, columns):
                        yield DepthwiseConfig(columns, height, staged, unroll_window=False)
                        yield DepthwiseConfig(columns, height, staged, unroll_window=True)

    def default(self, workload: DepthwiseWorkload, machine: Machine) -> DepthwiseConfig:
        def waste(columns: int) -> tuple[float, int]:
            if workload.width is None:
                return abs(columns - 8), 0
            tiles = -(-workload.width // columns)
            return tiles * columns / workload.width + 0.5 / columns, -columns

        columns = min(_columns(workload, machine), key=waste)
        return DepthwiseConfig(columns, 1, _stagings(workload, columns)[0], unroll_window=False)

    def apply(self, sch: Schedule, workload: DepthwiseWorkload, config: DepthwiseConfig) -> None:
        anchor = anchor_block(sch, KIND)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        schedule_rest(sch, anchor, last)
        n, o, h, w, lane = sch.get_loops(last)
        w, w_inner = sch.split(w, [None, config.columns])
        if config.height > 1:
            h, h_inner = sch.split(h, [None, config.height])
            sch.reorder(h, w, h_inner, w_inner)
        parallelise_nest(sch, [n, o, h])
        place_tile(sch, anchor, last, w, staged=config.staged)
        n, o, h, w, lane, r, s = sch.get_loops(anchor)[-7:]
        sch.unroll(s)
        accumulate(sch, anchor, [r, s], [n, o, h, w], lane)
        if config.unroll_window:
            sch.unroll(r)


def _columns(workload: DepthwiseWorkload, machine: Machine) -> range:
    return range(1, min(workload.width or MAX_ROWS, machine.vector_registers // 2) + 1)


def _stagings(workload: DepthwiseWorkload, columns: int) -> tuple[bool, ...]:
    exact = workload.width is not None and workload.width % columns == 0
    return (False, True) if exact else (True,)

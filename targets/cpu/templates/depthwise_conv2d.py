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
    """A depthwise convolution: its output width (None if symbolic) and its window."""

    width: int | None
    window: tuple[int, int]


@dataclass(frozen=True)
class DepthwiseConfig:
    """How many output columns are computed at once."""

    columns: int


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
        return DepthwiseWorkload(loop_extents(sch, crop)[3], (R, S))

    def space(self, workload: DepthwiseWorkload, machine: Machine) -> Iterator[DepthwiseConfig]:
        top = min(workload.width or MAX_ROWS, machine.vector_registers // 2)
        return (DepthwiseConfig(columns) for columns in range(1, top + 1))

    def default(self, workload: DepthwiseWorkload, machine: Machine) -> DepthwiseConfig:
        def waste(config: DepthwiseConfig) -> tuple[float, int]:
            if workload.width is None:
                return abs(config.columns - 8), 0
            tiles = -(-workload.width // config.columns)
            return tiles * config.columns / workload.width + 0.5 / config.columns, -config.columns

        return min(self.space(workload, machine), key=waste)

    def apply(self, sch: Schedule, workload: DepthwiseWorkload, config: DepthwiseConfig) -> None:
        anchor = anchor_block(sch, KIND)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        schedule_rest(sch, anchor, last)
        n, o, h, w, lane = sch.get_loops(last)
        w, _ = sch.split(w, [None, config.columns])
        parallelise_nest(sch, [n, o, h])
        exact = workload.width is not None and workload.width % config.columns == 0
        place_tile(sch, anchor, last, w, staged=not exact)
        n, o, h, w, lane, r, s = sch.get_loops(anchor)[-7:]
        sch.unroll(s)
        accumulate(sch, anchor, [r, s], [n, o, h, w], lane)

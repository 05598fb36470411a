"""Concatenation of blocked maps within blocks (``passes/compute/channel_concat.py``).

A task writes all channels of some rows. Units are written out, so which part each comes from is known to the
compiler, and copied as vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule

from ....passes.compute.channel_concat import UNIT
from ..machine import Machine
from .blocks import (
    inline_spatial_producers,
    is_schedulable,
    is_spatial,
    output_shape,
    parallelise_nest,
    root_blocks,
    static_product,
)
from .spatial import SERIAL_WORK


@dataclass(frozen=True)
class ChannelConcatWorkload:
    """How many lanes of a block come from one part."""

    unit: int


class ChannelConcatTemplate:
    """See the module's description."""

    name = "channel_concat"
    version = 1

    def matches(self, sch: Schedule) -> ChannelConcatWorkload | None:
        if not is_schedulable(sch) or not all(is_spatial(sch, block) for block in root_blocks(sch)):
            return None
        anchor = next((b for b in root_blocks(sch) if UNIT in sch.get(b).annotations), None)
        if anchor is None:
            return None
        inlined = sch.copy()
        inline_spatial_producers(inlined)
        blocks = root_blocks(inlined)
        shapes = [list(map(str, output_shape(s, b))) for s, b in ((sch, anchor), (inlined, blocks[-1]))]
        if len(blocks) > 1 or shapes[0] != shapes[1]:
            return None
        return ChannelConcatWorkload(int(sch.get(anchor).annotations[UNIT]))

    def space(self, workload: ChannelConcatWorkload, machine: Machine) -> Iterator[None]:
        yield None

    def default(self, workload: ChannelConcatWorkload, machine: Machine) -> None:
        return None

    def apply(self, sch: Schedule, workload: ChannelConcatWorkload, config: None) -> None:
        inline_spatial_producers(sch)
        (block,) = root_blocks(sch)
        image, blocks, row, column, lane = sch.get_loops(block)
        total = static_product(sch, [image, blocks, row, column, lane])
        unit, inner = sch.split(lane, [None, workload.unit])
        sch.reorder(image, row, blocks, column, unit, inner)
        sch.unroll(blocks)
        sch.unroll(unit)
        sch.vectorize(inner)
        if total is None or total >= SERIAL_WORK:
            parallelise_nest(sch, [image, row])

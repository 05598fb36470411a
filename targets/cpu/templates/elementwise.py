"""Functions without reductions: element-wise arithmetic, data movement, layout changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule

from ..machine import Machine
from .blocks import inline_spatial_producers, is_schedulable, is_spatial, root_blocks
from .spatial import DEFAULT_SPATIAL_CONFIG, SpatialConfig, schedule_spatial


@dataclass(frozen=True)
class ElementwiseWorkload:
    """How many blocks were fused."""

    blocks: int


class ElementwiseTemplate:
    """See the module's description."""

    name = "elementwise"
    version = 3

    def matches(self, sch: Schedule) -> ElementwiseWorkload | None:
        if not is_schedulable(sch):
            return None
        blocks = root_blocks(sch)
        return ElementwiseWorkload(len(blocks)) if all(is_spatial(sch, block) for block in blocks) else None

    def space(self, workload: ElementwiseWorkload, machine: Machine) -> Iterator[SpatialConfig]:
        choices = itertools.product((4096, 1024, 16384), (16, 8, 32, 64), (16384, 4096, 65536))
        return itertools.starmap(SpatialConfig, choices)

    def default(self, workload: ElementwiseWorkload, machine: Machine) -> SpatialConfig:
        return DEFAULT_SPATIAL_CONFIG

    def apply(self, sch: Schedule, workload: ElementwiseWorkload, config: SpatialConfig) -> None:
        inline_spatial_producers(sch)
        for block in root_blocks(sch):
            schedule_spatial(sch, block, config)

"""Functions without reductions: element-wise arithmetic, data movement, layout changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule

from ..machine import Machine
from .blocks import inline_spatial_producers, is_schedulable, is_spatial, root_blocks
from .spatial import schedule_spatial


@dataclass(frozen=True)
class ElementwiseWorkload:
    """How many blocks were fused."""

    blocks: int


class ElementwiseTemplate:
    """See the module's description."""

    name = "elementwise"
    version = 1

    def matches(self, sch: Schedule) -> ElementwiseWorkload | None:
        if not is_schedulable(sch):
            return None
        blocks = root_blocks(sch)
        return ElementwiseWorkload(len(blocks)) if all(is_spatial(sch, block) for block in blocks) else None

    def space(self, workload: ElementwiseWorkload, machine: Machine) -> Iterator[None]:
        yield None

    def default(self, workload: ElementwiseWorkload, machine: Machine) -> None:
        return None

    def apply(self, sch: Schedule, workload: ElementwiseWorkload, config: None) -> None:
        inline_spatial_producers(sch)
        for block in root_blocks(sch):
            schedule_spatial(sch, block)

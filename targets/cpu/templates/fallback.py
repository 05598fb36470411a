"""What no other template takes: every block parallel where its iterations allow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule, ScheduleError
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from .blocks import parallelise, root_blocks


@dataclass(frozen=True)
class AnyWorkload:
    """Nothing is known about it."""


class FallbackTemplate:
    """See the module's description."""

    name = "fallback"
    version = 1

    def matches(self, sch: Schedule) -> AnyWorkload | None:
        return AnyWorkload()

    def space(self, workload: AnyWorkload, machine: Machine) -> Iterator[None]:
        yield None

    def default(self, workload: AnyWorkload, machine: Machine) -> None:
        return None

    def apply(self, sch: Schedule, workload: AnyWorkload, config: None) -> None:
        for block in root_blocks(sch):
            try:
                _parallel_spatial_loops(sch, block)
            except ScheduleError:
                continue  # a block with dependences between iterations has to stay serial


def _parallel_spatial_loops(sch: Schedule, block: SBlockRV) -> None:
    """Parallelises the spatial loops that lead the nest of ``block``."""
    leading = []
    for loop, var in zip(sch.get_loops(block), sch.get(block).iter_vars, strict=False):
        if var.iter_type != tirx.IterVar.DataPar:
            break
        leading.append(loop)
    if leading:
        parallelise(sch, leading)

"""What no other template takes: every block parallel and, where it is spatial, vectorised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from .blocks import is_spatial, root_blocks
from .spatial import schedule_spatial


@dataclass(frozen=True)
class AnyWorkload:
    """Nothing is known about it."""


class FallbackTemplate:
    """See the module's description."""

    name = "fallback"

    def matches(self, sch: Schedule) -> AnyWorkload | None:
        return AnyWorkload()

    def space(self, workload: AnyWorkload, machine: Machine) -> Iterator[None]:
        yield None

    def default(self, workload: AnyWorkload, machine: Machine) -> None:
        return None

    def apply(self, sch: Schedule, workload: AnyWorkload, config: None) -> None:
        for block in root_blocks(sch):
            if is_spatial(sch, block):
                schedule_spatial(sch, block)
            else:
                _parallel_spatial_loops(sch, block)


def _parallel_spatial_loops(sch: Schedule, block: SBlockRV) -> None:
    """Parallelises the spatial loops that lead the nest of a reducing block."""
    leading = []
    kinds = [var.iter_type for var in sch.get(block).iter_vars]
    for loop, kind in zip(sch.get_loops(block), kinds, strict=False):
        if kind != tirx.IterVar.DataPar:
            break
        leading.append(loop)
    if leading:
        sch.parallel(sch.fuse(*leading) if len(leading) > 1 else leading[0])

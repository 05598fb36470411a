"""Whether each chain around a depthwise convolution shall be one kernel.

Chains are compared in the model only: several kernels, whose results may stay in caches from one to the next,
against one.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..passes.fuse_separable_conv2d import ChainExtents
from ..targets.cpu.chain_algorithms import algorithms, identify_choice
from ..targets.registry import CpuTarget
from .space import SearchSpace
from .tasks import Task


def chain_algorithm_tasks(calls: Mapping[ChainExtents, int], target: CpuTarget) -> list[Task]:
    """A task for each chain that has a choice; how often a model asks for it is given.

    They have no kernel that could be measured alone.
    """
    choices = ((extents, algorithms(extents, target.machine), count) for extents, count in calls.items())
    return [_task(extents, found, count) for extents, found, count in choices if len(found) > 1]


def _task(extents: ChainExtents, choices: list[Mapping[str, int]], calls: int) -> Task:
    channels = [extents.narrow, extents.wide, extents.out]
    listed = "-".join(str(count) for count in channels if count)
    return Task(
        kernel=identify_choice(extents),
        names=(f"chain {listed} of {extents.height}x{extents.width}",),
        calls=calls,
        source="",
        workload=dict(vars(extents)),
        space=SearchSpace(choices),
        default=choices[0],
        copies=(),
        flops=_flops(extents),
        bytes_moved=0,
    )


def _flops(extents: ChainExtents) -> int:
    """Of the convolutions; windows are as wide as high."""
    read = extents.height * extents.width * extents.narrow
    written = extents.out_height * extents.out_width * (extents.window_rows**2 + extents.out)
    return 2 * extents.images * extents.wide * (read + written)

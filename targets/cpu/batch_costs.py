"""How many images of a batch a processor computes at a time.

The model counts cycles of all cores together. What a kernel reads and writes beyond its share of the last
cache comes from memory. Groups of images that fit spare that, and pay with another start of every kernel,
with reading the weights again, and with copies where groups are sliced and joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from ...passes.batch_profile import Run, Step
from .machine import Machine

MEMORY_BYTES = 5.0
"""Bytes that a cycle moves between the last cache and memory; what is written goes both ways."""
CACHED_BYTES = 30.0
"""Bytes of weights that a cycle brings from the last cache."""
COPIED_BYTES = 5.0
"""Bytes that a cycle slices or joins."""
CACHE_SHARE = 0.25
"""Of the last cache, what the maps of one kernel find room in."""
START_CYCLES, CORE_CYCLES = 8000.0, 1000.0
"""To start a kernel and to wait for its last core; the second is for every core."""
MOST_GROUPS = 16
"""The graph grows by this factor at most."""


def group_images(run: Run, machine: Machine) -> Sequence[int]:
    """The groups with the least estimated time, by dynamic programming over the steps."""
    costs = _Costs(run, machine)
    groups = (count for count in range(1, min(run.batch, MOST_GROUPS) + 1) if run.batch % count == 0)
    sizes = [run.batch // count for count in groups]
    plans = {size: _Plan(costs.of(run.steps[0], size), (size,)) for size in sizes}
    for step in run.steps[1:]:
        plans = {size: costs.extend(plans, step, size) for size in sizes}
    return min(plans.values(), key=lambda plan: plan.cycles).sizes


@dataclass(frozen=True)
class _Plan:
    """The groups of the first steps of a run, and what these take."""

    cycles: float
    sizes: tuple[int, ...]


class _Costs:
    def __init__(self, run: Run, machine: Machine) -> None:
        self.batch = run.batch
        self.cache = machine.l3_bytes * CACHE_SHARE
        self.start = START_CYCLES + CORE_CYCLES * machine.cores
        cached = sum(step.weights for step in run.steps) <= machine.l3_bytes // 2
        self.weight_bytes = CACHED_BYTES if cached else MEMORY_BYTES

    def of(self, step: Step, size: int) -> float:
        """``step`` with ``size`` images at a time."""
        groups = self.batch // size
        spilled = max(0.0, step.traffic - groups * self.cache) / MEMORY_BYTES
        again = (groups - 1) * step.weights / self.weight_bytes
        starts = groups * self.start if step.traffic else 0.0
        return starts + spilled + again + (step.ends / COPIED_BYTES if groups > 1 else 0.0)

    def extend(self, plans: dict[int, _Plan], step: Step, size: int) -> _Plan:
        """The best of ``plans`` with ``step`` behind it, ``size`` images at a time."""
        before = min(plans.values(), key=lambda plan: plan.cycles + self._change(plan.sizes[-1], size, step))
        cycles = before.cycles + self._change(before.sizes[-1], size, step) + self.of(step, size)
        return _Plan(cycles, (*before.sizes, size))

    def _change(self, before: int, after: int, step: Step) -> float:
        """Between groups of ``before`` images and of ``after``, at the beginning of ``step``."""
        if before == after:
            return 0.0
        if step.border is None:
            return inf
        return step.border / COPIED_BYTES * ((before < self.batch) + (after < self.batch))

"""Groups some of whose candidates could not be built: the others are timed, and all get a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from .isolated_builder import BuiltGroup
from .measurement import BuiltKernel, Measurement

RunGroups: TypeAlias = Callable[[Sequence[Sequence[BuiltKernel]]], list[list[Measurement]]]
"""Times groups of kernels; the first of each group is the reference for the others."""


def measure_built(groups: Sequence[BuiltGroup], run: RunGroups) -> list[list[Measurement]]:
    """A measurement for each candidate, in order; groups whose reference was not built are not timed."""
    timed = [group for group in groups if isinstance(group[0], BuiltKernel)]
    results = iter(run([[kernel for kernel in group if isinstance(kernel, BuiltKernel)] for group in timed]))
    return [
        _merge(group, next(results)) if isinstance(group[0], BuiltKernel) else _without_reference(group)
        for group in groups
    ]


def _merge(group: BuiltGroup, measured: Sequence[Measurement]) -> list[Measurement]:
    remaining = iter(measured)
    return [next(remaining) if isinstance(kernel, BuiltKernel) else kernel for kernel in group]


def _without_reference(group: BuiltGroup) -> list[Measurement]:
    reference = group[0]
    assert isinstance(reference, Measurement)
    lost = replace(reference, message=f"nothing to compare with: {reference.message}")
    return [lost if isinstance(kernel, BuiltKernel) else kernel for kernel in group]

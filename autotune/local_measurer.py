"""Measuring on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..runtime.processor import allowed_cpus
from .isolated_builder import BuiltGroup, IsolatedBuilder
from .isolation import Failure, FailureKind, IsolatedCalls
from .measurement import BuiltKernel, Group, Measurement, RunOptions, Status
from .run_kernels import run_kernels


@dataclass
class LocalMeasurer:
    """Builds several candidates at once, then times one group after the other, with nothing beside it.

    Attributes:
        options: how groups are timed.
        builder: makes the libraries.
    """

    options: RunOptions
    builder: IsolatedBuilder = field(default_factory=IsolatedBuilder)

    def measure(self, groups: Sequence[Group]) -> list[list[Measurement]]:
        """See ``Measurer``."""
        return [self._run(group) for group in self.builder.build(groups)]

    def close(self) -> None:
        """Nothing outlives a call of ``measure``."""

    def _run(self, group: BuiltGroup) -> list[Measurement]:
        kernels = [kernel for kernel in group if isinstance(kernel, BuiltKernel)]
        if not isinstance(group[0], BuiltKernel):
            return [_without_reference(kernel, group[0]) for kernel in group]
        (answer,) = IsolatedCalls(run_pinned, self.options.time_limit)([(kernels, self.options)])
        measured = iter(measurements_of(answer, kernels))
        return [next(measured) if isinstance(kernel, BuiltKernel) else kernel for kernel in group]


def _without_reference(kernel: BuiltKernel | Measurement, reference: Measurement) -> Measurement:
    if isinstance(kernel, Measurement):
        return kernel
    return replace(reference, message=f"nothing to compare with: {reference.message}")


def run_pinned(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
    """``run_kernels`` on the last CPUs that this process may use: interrupts prefer the first ones."""
    os.sched_setaffinity(0, allowed_cpus()[-options.threads :])
    device = platform.node()
    return [replace(measurement, device=device) for measurement in run_kernels(kernels, options)]


def measurements_of(answer: list[Measurement] | Failure, kernels: Sequence[BuiltKernel]) -> list[Measurement]:
    """What ``run_kernels`` found in a process of its own, or for each kernel that it did not get there."""
    if not isinstance(answer, Failure):
        return answer
    status = Status.TIMEOUT if answer.kind is FailureKind.TIMEOUT else Status.RUN_ERROR
    return [
        Measurement(status, message=f"run: {answer.message}", build_seconds=kernel.build_seconds)
        for kernel in kernels
    ]

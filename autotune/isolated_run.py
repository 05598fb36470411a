"""Timing kernels that may crash or hang."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence
from dataclasses import replace

from .cpu_claims import claimed_cpus
from .isolation import Failure, FailureKind, IsolatedCalls
from .measurement import BuiltKernel, Measurement, RunOptions, Status
from .run_kernels import run_kernels


def run_isolated(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
    """``run_kernels`` in a process and on CPUs of its own; killed after ``options.time_limit`` seconds."""
    with claimed_cpus(options.threads) as cpus:
        (answer,) = IsolatedCalls(run_pinned, options.time_limit)([(kernels, options, cpus)])
    return measurements_of(answer, kernels)


def run_pinned(
    kernels: Sequence[BuiltKernel], options: RunOptions, cpus: Collection[int]
) -> list[Measurement]:
    """``run_kernels`` on some CPUs."""
    os.sched_setaffinity(0, cpus)
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

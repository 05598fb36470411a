"""Timing kernels that may crash or hang."""

from __future__ import annotations

from collections.abc import Sequence

from .isolation import IsolatedCalls
from .local_measurer import measurements_of, run_pinned
from .measurement import BuiltKernel, Measurement, RunOptions


def run_isolated(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
    """``run_kernels`` in a process of its own, which is killed after ``options.time_limit`` seconds."""
    (answer,) = IsolatedCalls(run_pinned, options.time_limit)([(kernels, options)])
    return measurements_of(answer, kernels)

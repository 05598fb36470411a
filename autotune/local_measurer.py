"""Measuring on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .built_groups import measure_built
from .isolated_builder import IsolatedBuilder
from .isolated_run import run_isolated
from .measurement import BuiltKernel, Group, Measurement, RunOptions


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
        return measure_built(self.builder.build(groups), self._run)

    def close(self) -> None:
        """Nothing outlives a call of ``measure``."""

    def _run(self, groups: Sequence[Sequence[BuiltKernel]]) -> list[list[Measurement]]:
        return [run_isolated(kernels, self.options) for kernels in groups]

"""Tasks that cost nothing, and a measurer that knows their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from relaxc.autotune.measurement import Group, Measurement, Status
from relaxc.autotune.space import SearchSpace
from relaxc.autotune.tasks import Task
from relaxc.targets.cpu.kernel_identity import KernelIdentity
from relaxc.targets.registry import CpuTarget, resolve

Time = Callable[[Mapping[str, int]], float]
"""Seconds of a schedule, by its knobs; negative for one that crashes."""

DEFAULT = {"rows": 4, "vectors": 1, "unroll": 0}


def toy_task(name: str = "conv", width: int = 56, calls: int = 1) -> Task:
    """A task with 16 x 8 x 2 schedules."""
    points = [
        {"rows": rows, "vectors": vectors, "unroll": unroll}
        for rows in range(1, 17)
        for vectors in range(1, 9)
        for unroll in (0, 1)
    ]
    return Task(
        kernel=KernelIdentity("toy", 1, f"{sum(map(ord, name)):08x}{width:08x}"),
        names=(name,),
        calls=calls,
        source=name,
        workload={"width": width},
        space=SearchSpace(points),
        default=DEFAULT,
        copies=(),
        flops=1_000_000,
        bytes_moved=10_000,
    )


def toy_time(knobs: Mapping[str, int]) -> float:
    """Least, a third of the default's, at 14 rows and 2 vectors, unrolled; too many registers crash."""
    if knobs["rows"] * knobs["vectors"] > 31:
        return -1.0
    distance = abs(knobs["rows"] - 14) / 14 + abs(knobs["vectors"] - 2) / 2
    return 1e-5 * (1.0 + 1.5 * distance) * (1.0 if knobs["unroll"] else 1.1)


@dataclass
class FakeMeasurer:
    """Answers from a function of the knobs, by the kernel's source.

    Attributes:
        times: the function.
        measured: how many groups were asked for.
        interrupt_after: raises KeyboardInterrupt when so many groups were measured.
    """

    times: Mapping[str, Time]
    measured: int = 0
    interrupt_after: int | None = None
    closed: bool = field(default=False)

    def measure(self, groups: Sequence[Group]) -> list[list[Measurement]]:
        """See ``Measurer``."""
        if self.interrupt_after is not None and self.measured >= self.interrupt_after:
            raise KeyboardInterrupt
        self.measured += len(groups)
        return [[self._one(c.kernel, c.knobs) for c in group] for group in groups]

    def close(self) -> None:
        """See ``Measurer``."""
        self.closed = True

    def _one(self, kernel: str, knobs: Mapping[str, int] | None) -> Measurement:
        seconds = self.times[kernel](DEFAULT if knobs is None else knobs)
        if seconds < 0:
            return Measurement(Status.RUN_ERROR, message="run: the process ended with SIGSEGV")
        return Measurement(Status.OK, (seconds,) * 10)


@pytest.fixture(scope="session")
def native() -> CpuTarget:
    """This machine."""
    return resolve("native")

"""What travels between the tuner and whatever measures: candidates one way, measurements the other.

All of it can be pickled. Measuring has two halves, which may happen on different machines:
``build_kernel.build_kernel`` makes a library of a candidate and needs the compiler;
``run_kernels.run_kernels`` times libraries against each other and needs the runtime only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # a device that only measures needs no compiler
    from ..targets.registry import CpuTarget

Knobs: TypeAlias = Mapping[str, int]
"""A point of a template's space: the name of each choice, and what was chosen."""


@dataclass(frozen=True)
class Candidate:
    """One way to schedule one kernel.

    Attributes:
        kernel: the unscheduled function as TVM's JSON (``tvm.ir.save_json``).
        knobs: the schedule; None for the default of the template that takes the kernel.
        target: what to generate code for.
        copies: as in ``ArgumentSpec``, for each argument; empty for one of each.
    """

    kernel: str
    knobs: Knobs | None
    target: CpuTarget
    copies: tuple[int, ...] = ()


@dataclass(frozen=True)
class ArgumentSpec:
    """An array that a kernel takes.

    Attributes:
        shape: extents.
        dtype: element type, a NumPy or ml_dtypes name.
        copies: how many arrays of the same values take turns from call to call. A model that runs reads all
            its other weights between two calls of a kernel; enough copies leave a kernel's weights as cold.
        windows: the matrix G, if the array holds filters that are transformed by it: of [O, 3, 3, I, v] each
            window g as G g G^T, in [O, positions, I, v]. Kernels that convolve with the same filters by
            different algorithms then compute the same.
        quadrants: the factors of the quadrants in each product of Strassen's algorithm, if the array holds a
            right-hand side that is transformed by them: a matrix [K, N] in panels, [N/v, K, v], becomes
            [N/2/v, products, K/2, v].
    """

    shape: tuple[int, ...]
    dtype: str
    copies: int = 1
    windows: tuple[tuple[float, ...], ...] = ()
    quadrants: tuple[tuple[int, ...], ...] = ()

    @property
    def drawn_shape(self) -> tuple[int, ...]:
        """Of the random array from which the values are made."""
        if self.quadrants:
            panels, _, depth, lanes = self.shape
            return (2 * panels, 2 * depth, lanes)
        if not self.windows:
            return self.shape
        taps = len(self.windows[0])
        return (self.shape[0], taps, taps, *self.shape[2:])


@dataclass(frozen=True)
class BuiltKernel:
    """A candidate as machine code.

    Attributes:
        library: the bytes of a shared library that exports the function ``KERNEL_NAME``.
        arguments: what that function takes; it overwrites some of them with its results.
        build_seconds: what the build took.
    """

    library: bytes
    arguments: tuple[ArgumentSpec, ...]
    build_seconds: float


KERNEL_NAME = "main"


@dataclass(frozen=True)
class RunOptions:
    """How a group of kernels is timed.

    Attributes:
        threads: how many threads a kernel may use.
        warmup: calls of each kernel before the timing.
        repetitions: the least and the most undisturbed rounds; a round calls each kernel of the group.
        confidence_width: the timing ends when, for each kernel, the 95 % confidence interval of the median is
            narrower than this part of the median.
        round_seconds: a kernel is called several times in a round until they have taken about this long.
        max_seconds: the timing ends after this time, however wide the interval is.
        time_limit: seconds for everything, before the group is given up.
        flush_cache: whether the caches are emptied before each call. Then a round makes one call of each.
        tolerance: how far a result may be from the reference's, relative to the largest magnitude in it.
        seed: of the random arguments.
    """

    threads: int
    warmup: int = 2
    repetitions: tuple[int, int] = (10, 60)
    confidence_width: float = 0.03
    round_seconds: float = 0.001
    max_seconds: float = 0.6
    time_limit: float = 20.0
    flush_cache: bool = False
    tolerance: float = 2e-4
    seed: int = 0


class Status(StrEnum):
    """How the measurement of a candidate ended."""

    OK = "ok"
    BUILD_ERROR = "build_error"
    RUN_ERROR = "run_error"
    TIMEOUT = "timeout"
    WRONG_RESULT = "wrong_result"


@dataclass(frozen=True)
class Measurement:
    """What came of one candidate.

    Attributes:
        status: whether ``seconds`` mean anything.
        seconds: the time of one call, in each round; empty unless ``status`` is ok.
        message: one line on what went wrong.
        device: where it ran.
        build_seconds: what the build took.
    """

    status: Status
    seconds: tuple[float, ...] = ()
    message: str = ""
    device: str = field(default="", compare=False)
    build_seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the candidate ran and gave the right result."""
        return self.status is Status.OK

    @property
    def median(self) -> float:
        """The median of ``seconds``; infinite for a candidate that failed."""
        return median(self.seconds) if self.ok else float("inf")


Group: TypeAlias = Sequence[Candidate]
"""Schedules of one kernel, for one target, that are timed against each other. The first one's result is the
reference for the others'."""


class Measurer(Protocol):
    """Measures on this machine, or on others. The tuner knows nothing else about devices."""

    def measure(self, groups: Sequence[Group]) -> list[list[Measurement]]:
        """Builds and times each group, all candidates of a group in turns in one process on one device.

        Groups are independent and may be measured at the same time on different devices. Returns a
        measurement for each candidate, in order. Failures of candidates are measurements, too; an exception
        means that measuring itself has become impossible.
        """

    def close(self) -> None:
        """Ends processes and connections."""

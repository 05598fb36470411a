"""Timing every kernel of a run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...runtime.executable import Executable
from ...runtime.signature import KernelSpec

if TYPE_CHECKING:
    from ...targets.cpu.ceilings import Ceilings

# Calls of the runtime's own functions (allocation, shape checks) are summed up in one row of this name.
RUNTIME = "(runtime)"


@dataclass(frozen=True)
class KernelCall:
    """One call.

    Attributes:
        name: of the kernel, or ``RUNTIME``.
        start, end: ``time.perf_counter_ns`` before and after.
        bytes_moved: the sizes of all its arguments.
    """

    name: str
    start: int
    end: int
    bytes_moved: int


@dataclass(frozen=True)
class KernelRow:
    """What one kernel cost in an average run.

    Attributes:
        name, template: as in the signature.
        calls: in one run.
        microseconds: in one run, all calls together.
        share: of all kernels' time.
        gflops: achieved rate, or None where the number of operations is not known.
        gbytes: achieved GB/s.
        of_ceiling: the least time that the machine's measured limits allow, divided by the time taken; more
            than 1 where data stayed in a cache. None where the limits were not measured.
    """

    name: str
    template: str
    calls: int
    microseconds: float
    share: float
    gflops: float | None
    gbytes: float
    of_ceiling: float | None


@dataclass
class KernelRecorder:
    """An instrument for ``Executable.run_instrumented`` that notes every call."""

    kernels: frozenset[str]
    calls: list[KernelCall] = field(default_factory=list)
    _started: int = 0

    def __call__(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> None:
        now = time.perf_counter_ns()
        if before:
            self._started = time.perf_counter_ns()
        elif name in self.kernels:
            self.calls.append(KernelCall(name, self._started, now, sum(map(_bytes_of, arguments))))
        else:
            self.calls.append(KernelCall(RUNTIME, self._started, now, 0))


def record_kernels(executable: Executable, inputs: Mapping[str, Any], runs: int) -> list[list[KernelCall]]:
    """Runs a model ``runs`` times, after once to warm up, and returns the calls of each run."""
    kernels = frozenset(kernel["name"] for kernel in executable.metadata["kernels"])
    recorded = []
    for _ in range(runs + 1):
        recorder = KernelRecorder(kernels)
        executable.run_instrumented(inputs, recorder)
        recorded.append(recorder.calls)
    return recorded[1:]


def kernel_rows(
    runs: Sequence[Sequence[KernelCall]],
    kernels: Sequence[KernelSpec],
    ceilings: Ceilings | None,
) -> list[KernelRow]:
    """The rows of a profile, the costliest first.

    Args:
        runs: the calls of each run.
        kernels: facts from the signature.
        ceilings: the machine's limits, if measured.
    """
    calls: defaultdict[str, list[KernelCall]] = defaultdict(list)
    for run in runs:
        for call in run:
            calls[call.name].append(call)
    total = sum(call.end - call.start for group in calls.values() for call in group) or 1
    facts = {kernel.name: kernel for kernel in kernels}
    rows = [_row(facts.get(name), group, len(runs), total, ceilings) for name, group in calls.items()]
    return sorted(rows, key=lambda row: -row.microseconds)


def _row(
    kernel: KernelSpec | None,
    calls: Sequence[KernelCall],
    runs: int,
    total: int,
    ceilings: Ceilings | None,
) -> KernelRow:
    nanoseconds = sum(call.end - call.start for call in calls) or 1
    flops = None if kernel is None or kernel.flops is None else kernel.flops * len(calls)
    moved = sum(call.bytes_moved for call in calls)
    if kernel is not None and kernel.bytes_moved is not None:
        moved = kernel.bytes_moved * len(calls)
    return KernelRow(
        name=kernel.name if kernel else RUNTIME,
        template=kernel.template if kernel else "",
        calls=round(len(calls) / runs),
        microseconds=nanoseconds / runs / 1e3,
        share=nanoseconds / total,
        gflops=None if flops is None else flops / nanoseconds,
        gbytes=moved / nanoseconds,
        of_ceiling=None
        if ceilings is None or kernel is None
        else _bound(flops, moved, ceilings) / nanoseconds,
    )


def _bound(flops: int | None, moved: int, ceilings: Ceilings) -> float:
    """The least nanoseconds that arithmetic and memory traffic can take: Williams, Waterman and Patterson,
    "Roofline", CACM 52(4), 2009.
    """
    return max((flops or 0) / ceilings.gflops, moved / ceilings.gbytes)


def _bytes_of(argument: Any) -> int:
    if not hasattr(argument, "data_ptr"):
        return 0
    bits: int = argument.numel() * argument.dtype.bits
    return -(-bits // 8)

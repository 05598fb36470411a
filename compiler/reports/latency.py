"""Timing whole runs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One timed run.

    Attributes:
        stream: number of the caller.
        start, end: ``time.perf_counter_ns`` before and after.
    """

    stream: int
    start: int
    end: int


@dataclass(frozen=True)
class LatencySummary:
    """Statistics over runs; times in milliseconds.

    Attributes:
        runs: how many.
        minimum, median, mean, p90, p99, maximum: of the latencies.
        throughput: runs a second, of all streams together.
    """

    runs: int
    minimum: float
    median: float
    mean: float
    p90: float
    p99: float
    maximum: float
    throughput: float


@dataclass(frozen=True)
class Budget:
    """How much to measure in each stream: a number of runs, or a time in seconds where that is None."""

    warmup: int
    repeat: int | None
    seconds: float


def summarize(runs: Sequence[Run]) -> LatencySummary:
    """The statistics of at least one run."""
    latencies = sorted((run.end - run.start) / 1e6 for run in runs)
    wall_seconds = (max(run.end for run in runs) - min(run.start for run in runs)) / 1e9
    return LatencySummary(
        runs=len(latencies),
        minimum=latencies[0],
        median=percentile(latencies, 50),
        mean=sum(latencies) / len(latencies),
        p90=percentile(latencies, 90),
        p99=percentile(latencies, 99),
        maximum=latencies[-1],
        throughput=len(latencies) / wall_seconds,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """A percentile of ordered values, interpolated linearly between the two nearest ranks."""
    position = (len(ordered) - 1) * percent / 100
    low, fraction = math.floor(position), position % 1
    return ordered[low] + fraction * (ordered[math.ceil(position)] - ordered[low])


def time_runs(call: Callable[[], object], budget: Budget, streams: int) -> list[Run]:
    """Calls ``call`` again and again from ``streams`` threads at once and times every call.

    The first error in any stream is raised here, after all streams have ended; an interruption ends them.
    """
    start_together = threading.Barrier(streams)
    if streams == 1:
        return _time_stream(call, budget, 0, start_together)
    with ThreadPoolExecutor(streams) as pool:
        work = [pool.submit(_time_stream, call, budget, stream, start_together) for stream in range(streams)]
        try:
            wait(work, return_when=FIRST_EXCEPTION)
        finally:
            start_together.abort()
    return _all_runs(work)


def _time_stream(
    call: Callable[[], object], budget: Budget, stream: int, start_together: threading.Barrier
) -> list[Run]:
    """Runs until the budget is spent, or until another stream's failure has broken the barrier."""
    try:
        for _ in range(budget.warmup):
            call()
    except BaseException:
        start_together.abort()
        raise
    start_together.wait()
    runs: list[Run] = []
    deadline = time.perf_counter_ns() + int(budget.seconds * 1e9)
    while not runs or (len(runs) < budget.repeat if budget.repeat else runs[-1].end < deadline):
        if start_together.broken:
            raise threading.BrokenBarrierError
        start = time.perf_counter_ns()
        call()
        runs.append(Run(stream, start, time.perf_counter_ns()))
    return runs


def _all_runs(work: Sequence[Future[list[Run]]]) -> list[Run]:
    errors = [error for stream in work if (error := stream.exception()) is not None]
    # A stream that was only let down by another one's failure reports the broken barrier.
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return [run for stream in work for run in stream.result()]

"""Timing whole runs of artifacts of one model, in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import Executable, load
from .cpu_claims import claimed_cpus
from .isolation import Failure, FailureKind, IsolatedCalls
from .measurement import Measurement, RunOptions, Status
from .run_kernels import compare_results

_RUNS_IN_TURN = 4
_LEAST_TURNS, _MOST_TURNS = 3, 60
# Models that take longer run once in a turn; two turns in each of several processes prove something.
_SLOW_RUN_SECONDS = 0.5
_LEAST_SLOW_TURNS = 2
# For each artifact: of slow ones, the first run and the least turns.
_PATIENCE_SECONDS = 30.0
# Errors of kernels add up from layer to layer.
_LOOSER = 10.0
ROUNDING = {"bf16": 2.0**-7, "fp16": 2.0**-10}
"""The precisions that round values between kernels, and how far neighbouring values are apart."""


def time_whole_runs(
    artifacts: Sequence[Path], inputs: Mapping[str, Any], seconds: float, options: RunOptions
) -> list[Measurement]:
    """For each artifact the seconds of every run, and whether the results are those of the first one.

    They run in turns, in one new process. Where that dies, the first one runs alone; if it can, the others
    are to blame.
    """
    with claimed_cpus(options.threads) as cpus:
        calls = IsolatedCalls(run_in_turns, _PATIENCE_SECONDS * max(2, len(artifacts)) + 4 * seconds)
        (answer,) = calls([(tuple(artifacts), dict(inputs), seconds, options, cpus)])
    if not isinstance(answer, Failure):
        return answer
    status = Status.TIMEOUT if answer.kind is FailureKind.TIMEOUT else Status.RUN_ERROR
    first, *others = [Measurement(status, message=f"model: {answer.message}")] * len(artifacts)
    if others:
        (first,) = time_whole_runs(artifacts[:1], inputs, seconds, options)
    return [first, *others]


def run_in_turns(
    artifacts: Sequence[Path],
    inputs: Mapping[str, Any],
    seconds: float,
    options: RunOptions,
    cpus: Collection[int],
) -> list[Measurement]:
    """As ``time_whole_runs``, in this process, on some CPUs.

    They are loaded in random order, since which of them came first decides where memory comes to lie.
    """
    os.sched_setaffinity(0, cpus)
    order = np.random.default_rng([options.seed, os.getpid()])
    places = order.permutation(len(artifacts)).tolist()
    loaded = {i: load(artifacts[i], options.threads) for i in places}
    started = time.monotonic()
    first = {i: _arrays(loaded[i].run(inputs)) for i in places}
    executables = [loaded[i] for i in range(len(artifacts))]
    tolerance = _LOOSER * max(options.tolerance, ROUNDING.get(executables[0].metadata["precision"], 0.0))
    outcomes = [compare_results(first[i], first[0], tolerance) for i in range(len(artifacts))]
    found: list[list[float]] = [[] for _ in executables]
    slow = time.monotonic() - started > _SLOW_RUN_SECONDS * len(executables)
    deadline = time.monotonic() + seconds
    for number in range(_MOST_TURNS):
        if number >= (_LEAST_SLOW_TURNS if slow else _LEAST_TURNS) and time.monotonic() > deadline:
            break
        for i in order.permutation(len(executables)):
            found[i] += _turn(executables[i], inputs, slow)
    return [
        Measurement(Status.OK, tuple(times)) if outcome.ok else outcome
        for times, outcome in zip(found, outcomes, strict=True)
    ]


def _turn(executable: Executable, inputs: Mapping[str, Any], slow: bool) -> list[float]:
    """The first run finds the caches as another artifact left them, which only slow ones do not feel."""
    if slow:
        return [_seconds(executable, inputs)]
    return [_seconds(executable, inputs) for _ in range(_RUNS_IN_TURN + 1)][1:]


def _seconds(executable: Executable, inputs: Mapping[str, Any]) -> float:
    start = time.perf_counter()
    executable.run(inputs)
    return time.perf_counter() - start


def _arrays(results: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
    """The results that are plain tensors."""
    return [value for value in results.values() if isinstance(value, np.ndarray)]

"""Timing many candidates of many kernels at once, inside the model, in a process of their own."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import load
from ..runtime.library import load_runtime
from ..runtime.thread_pool import call_with_threads
from .cpu_claims import claimed_cpus
from .isolation import Failure, FailureKind, IsolatedCalls
from .measurement import KERNEL_NAME, BuiltKernel, Measurement, RunOptions, Status
from .model_judgement import Choices, Rotation, Times, candidate_seconds
from .model_replay import Kernel, TracedCall, check_in_place, timed_run, trace

_LEAST_BLOCKS, _MOST_BLOCKS = 8, 400
# A slow model may take so many times longer than it should for the least number of blocks.
_OVERTIME = 3.0
# Of short runs several make a turn, of which medians count: else the code of a kernel would be colder than in
# a model that always runs the same.
_SHORT_RUN_SECONDS = 0.005
_RUNS_IN_TURN = 3
# Loading and checking may take so long, and the least number of blocks of a large model so much longer.
_PATIENCE_SECONDS = 30.0
_PATIENCE_WITH_RUNS = 60.0


class RoundError(Exception):
    """A model cannot be measured in."""


@dataclass(frozen=True)
class Contestants:
    """Schedules of one task, as machine code.

    Attributes:
        names: of the task's kernels in the model.
        kernels: the default first.
    """

    names: tuple[str, ...]
    kernels: tuple[BuiltKernel, ...]


@dataclass(frozen=True)
class ModelAtHand:
    """A model to measure in.

    Attributes:
        artifact: with the default schedules.
        inputs: of a run.
    """

    artifact: Path
    inputs: Mapping[str, Any]


def run_round(
    model: ModelAtHand, contestants: Sequence[Contestants], seconds: float, options: RunOptions
) -> list[list[Measurement]]:
    """For each task a measurement of each of its kernels; compare those of one task block by block.

    A kernel whose results differ from those of the model's own is not timed. Where the process dies, ever
    smaller parts of the kernels are tried without timing, until it is known which ones are to blame; the
    others are timed.

    Raises:
        RoundError: nobody is to blame: the model's calls cannot be repeated, or not in this time.
    """
    if not contestants:
        return []
    answer = _isolated(model, contestants, seconds, options)
    if not isinstance(answer, Failure):
        return answer
    everyone = [(i, k) for i, each in enumerate(contestants) for k in range(1, len(each.kernels))]
    guilty = (
        set() if _fails(model, contestants, [], options) else _guilty(model, contestants, everyone, options)
    )
    if not guilty:
        raise RoundError(f"no measuring inside the model: {answer.message}")
    rest = run_round(model, _only(contestants, set(everyone) - guilty), seconds, options)
    return _with_guilty(contestants, rest, guilty, answer)


Place = tuple[int, int]
"""The numbers of a task and of one of its kernels."""


def _only(contestants: Sequence[Contestants], places: Collection[Place]) -> list[Contestants]:
    """The defaults of all tasks, and some other kernels."""
    return [
        replace(each, kernels=tuple(k for n, k in enumerate(each.kernels) if n == 0 or (i, n) in places))
        for i, each in enumerate(contestants)
    ]


def _guilty(
    model: ModelAtHand, contestants: Sequence[Contestants], places: Sequence[Place], options: RunOptions
) -> set[Place]:
    """The kernels with which the process dies, among those at ``places``."""
    if not places or not _fails(model, contestants, places, options):
        return set()
    if len(places) <= 1:
        return set(places)
    half = len(places) // 2
    parts = (places[:half], places[half:])
    return set().union(*(_guilty(model, contestants, part, options) for part in parts))


def _fails(
    model: ModelAtHand, contestants: Sequence[Contestants], places: Sequence[Place], options: RunOptions
) -> bool:
    """Whether the process dies with the defaults and the kernels at ``places``."""
    return isinstance(_isolated(model, _only(contestants, places), 0.0, options), Failure)


def _with_guilty(
    contestants: Sequence[Contestants],
    measured: Sequence[Sequence[Measurement]],
    guilty: Collection[Place],
    failure: Failure,
) -> list[list[Measurement]]:
    """The measurements of all kernels in order, from those of the ones that are not guilty."""
    status = Status.TIMEOUT if failure.kind is FailureKind.TIMEOUT else Status.RUN_ERROR
    lost = Measurement(status, message=f"inside the model: {failure.message}")
    whole = []
    for i, each in enumerate(contestants):
        left = iter(measured[i])
        whole.append([lost if (i, n) in guilty else next(left) for n in range(len(each.kernels))])
    return whole


def _isolated(
    model: ModelAtHand, contestants: Sequence[Contestants], seconds: float, options: RunOptions
) -> list[list[Measurement]] | Failure:
    limit = _PATIENCE_SECONDS + (_PATIENCE_WITH_RUNS + 4 * seconds if seconds > 0 else 0.0)
    with claimed_cpus(options.threads) as cpus:
        calls = IsolatedCalls(measure_pinned, limit)
        (answer,) = calls([(model, tuple(contestants), seconds, options, cpus)])
    return answer


def measure_pinned(
    model: ModelAtHand,
    contestants: Sequence[Contestants],
    seconds: float,
    options: RunOptions,
    cpus: Collection[int],
) -> list[list[Measurement]]:
    """A round in this process, on some CPUs; no times where there are no ``seconds``."""
    os.sched_setaffinity(0, cpus)
    return call_with_threads(options.threads, _measure, model, contestants, seconds, options)


def _measure(
    model: ModelAtHand, contestants: Sequence[Contestants], seconds: float, options: RunOptions
) -> list[list[Measurement]]:
    calls = trace(load(model.artifact, options.threads), model.inputs)
    owner = {name: index for index, each in enumerate(contestants) for name in each.names}
    with tempfile.TemporaryDirectory(prefix="relaxc-") as folder:
        kernels = [_loaded(each.kernels, Path(folder), f"{i}") for i, each in enumerate(contestants)]
        outcomes = _checked(calls, owner, kernels, options.tolerance)
        right = [_right_ones(*pair) for pair in zip(kernels, outcomes, strict=True)]
        if seconds > 0 and any(right):
            outcomes = _with_times(outcomes, _Timed(calls, owner, right).measure(seconds, options.seed))
    built = [[kernel.build_seconds for kernel in each.kernels] for each in contestants]
    return [
        [
            replace(outcome, device=platform.node(), build_seconds=cost)
            for outcome, cost in zip(*pair, strict=True)
        ]
        for pair in zip(outcomes, built, strict=True)
    ]


def _loaded(kernels: Sequence[BuiltKernel], folder: Path, prefix: str) -> list[Kernel]:
    functions = []
    for number, kernel in enumerate(kernels):
        path = folder / f"{prefix}.{number}.so"
        path.write_bytes(kernel.library)
        functions.append(load_runtime().load_module(str(path))[KERNEL_NAME])
    return functions


def _checked(
    calls: Sequence[TracedCall],
    owner: Mapping[str, int],
    kernels: Sequence[Sequence[Kernel]],
    tolerance: float,
) -> list[list[Measurement]]:
    """A run with the model's own kernels, in which all kernels of a task make its first call, too."""
    outcomes: dict[int, list[Measurement]] = {}
    for call in calls:
        task = owner.get(call.name)
        if task is None or task in outcomes:
            call.function(*call.arguments)
        else:
            outcomes[task] = check_in_place(call, kernels[task], tolerance)
    absent = Measurement(Status.RUN_ERROR, message="the model does not call this kernel")
    return [outcomes.get(task, [absent] * len(each)) for task, each in enumerate(kernels)]


def _right_ones(kernels: Sequence[Kernel], outcomes: Sequence[Measurement]) -> list[Kernel]:
    return [kernel for kernel, outcome in zip(kernels, outcomes, strict=True) if outcome.ok]


@dataclass(frozen=True)
class _Timed:
    """The calls of a run, and the kernels that may make those of each task."""

    calls: Sequence[TracedCall]
    owner: Mapping[str, int]
    kernels: Sequence[Sequence[Kernel]]

    def measure(self, seconds: float, seed: int) -> list[list[tuple[float, ...]]]:
        """See ``candidate_seconds``."""
        tasks = [self.owner.get(call.name, -1) for call in self.calls]
        tasks = [task if task >= 0 and self.kernels[task] else -1 for task in tasks]
        rotation = Rotation(tasks, [len(each) for each in self.kernels])
        generator = np.random.default_rng([seed, os.getpid()])  # no two processes alike
        runs = _RUNS_IN_TURN if sum(self._turn(rotation.block(generator)[0], 1)) < _SHORT_RUN_SECONDS else 1
        started = time.monotonic()
        times: list[list[Times]] = []
        chosen: list[Choices] = []
        while not _enough(len(times), (time.monotonic() - started) / seconds):
            chosen.append(rotation.block(generator))
            times.append([self._turn(choice, runs) for choice in chosen[-1]])
        return candidate_seconds(rotation, np.array(times), np.array(chosen))

    def _turn(self, choice: Sequence[int], runs: int) -> Times:
        """The median seconds of each call over some runs with the same kernels."""
        functions = [
            call.function if candidate < 0 else self.kernels[self.owner[call.name]][candidate]
            for call, candidate in zip(self.calls, choice, strict=True)
        ]
        medians: Times = np.median([timed_run(self.calls, functions) for _ in range(runs)], axis=0)
        return medians


def _enough(blocks: int, part: float) -> bool:
    """Whether to end after so many blocks and such a part of the time."""
    if blocks < _LEAST_BLOCKS:
        return blocks > 0 and part > _OVERTIME
    return part > 1.0 or blocks >= _MOST_BLOCKS


def _with_times(
    outcomes: Sequence[Sequence[Measurement]], times: Sequence[Sequence[tuple[float, ...]]]
) -> list[list[Measurement]]:
    measured = []
    for of_task, found in zip(outcomes, times, strict=True):
        left = iter(found)
        measured.append([replace(each, seconds=next(left)) if each.ok else each for each in of_task])
    return measured

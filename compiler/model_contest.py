"""The last contest of a tuning session: inside the model, with the champions and without.

A kernel that is measured alone finds its input where its own last call left it. In the model another kernel
wrote it, on cores that may share the work in another way, and the caches are full of other kernels' data. So
champions are measured there, too, and those that are slower than the defaults are dropped.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, TypeAlias

from ..autotune.measurement import Measurement, Status
from ..autotune.session import Session
from ..autotune.task_state import TaskState
from ..runtime import Executable
from .reports.kernel_profile import KernelCall, record_kernels
from .sample_inputs import sample_inputs

Compilation: TypeAlias = Callable[[], Executable]
Inputs: TypeAlias = Mapping[str, Any]

_RUNS_PER_TURN = 4
_LEAST_TURNS = 6
_MOST_TURNS = 60


@dataclass(frozen=True)
class ModelContest:
    """How the champions did in the model.

    Attributes:
        kept, dropped: how many were, and were not, as fast as the defaults or faster.
        untuned, tuned: the median seconds of a run, with the defaults and with the champions that were kept.
    """

    kept: int
    dropped: int
    untuned: float
    tuned: float

    def __str__(self) -> str:
        runs = f"{self.untuned * 1e3:.2f} -> {self.tuned * 1e3:.2f} ms ({self.untuned / self.tuned:.2f}x)"
        return f"inside the model: {self.kept} tuned kernels kept, {self.dropped} dropped; a run takes {runs}"


def hold_model_contest(
    session: Session, untuned: Compilation, tuned: Compilation, seconds: float
) -> ModelContest | None:
    """Drops champions that are slower in the model than the defaults; None if there is no champion.

    Args:
        session: has ended; what is found goes into its records.
        untuned: compiles the model with the defaults.
        tuned: compiles it with the champions that the session's records hold.
        seconds: to spend on the runs in which kernels are timed, and again on whole runs.

    Raises:
        ShapeError: an input of the model has a symbolic extent.
    """
    tuned_before = champions(session)
    if not tuned_before:
        return None
    baseline, candidate = untuned(), tuned()
    inputs = sample_inputs(baseline.inputs, {})
    default_runs, champion_runs = _kernels_in_turns([baseline, candidate], inputs, seconds)
    for state in tuned_before:
        session.note_model_run(state, _measured(state, default_runs), _measured(state, champion_runs))
    kept = len(champions(session))
    if kept < len(tuned_before):
        candidate = tuned()
    before, after = whole_runs_in_turns([baseline, candidate], inputs, seconds)
    return ModelContest(kept, len(tuned_before) - kept, median(before), median(after))


def champions(session: Session) -> list[TaskState]:
    """The tasks of which another schedule than the default is champion."""
    return [
        state for state in session.states if state.standing is not None and state.standing.knobs is not None
    ]


def _measured(state: TaskState, runs: Sequence[Mapping[str, float]]) -> Measurement:
    """The seconds of one call of the task's kernel, for every run."""
    per_call = (sum(run[name] for name in state.task.names) / state.task.calls for run in runs)
    return Measurement(Status.OK, tuple(per_call))


def _kernels_in_turns(
    executables: Sequence[Executable], inputs: Inputs, seconds: float
) -> list[list[Mapping[str, float]]]:
    """For each executable the seconds of each kernel, all calls together, in every run."""

    def turn(executable: Executable) -> list[Mapping[str, float]]:
        return [_by_kernel(calls) for calls in record_kernels(executable, inputs, _RUNS_PER_TURN)]

    return _in_turns([partial(turn, executable) for executable in executables], seconds)


def _by_kernel(calls: Sequence[KernelCall]) -> Mapping[str, float]:
    times: defaultdict[str, float] = defaultdict(float)
    for call in calls:
        times[call.name] += (call.end - call.start) * 1e-9
    return times


def whole_runs_in_turns(
    executables: Sequence[Executable], inputs: Inputs, seconds: float
) -> list[list[float]]:
    """For each executable the seconds of every run, the first of each turn left out."""

    def turn(executable: Executable) -> list[float]:
        return [_seconds(executable, inputs) for _ in range(_RUNS_PER_TURN + 1)][1:]

    return _in_turns([partial(turn, executable) for executable in executables], seconds)


def _seconds(executable: Executable, inputs: Inputs) -> float:
    start = time.perf_counter()
    executable.run(inputs)
    return time.perf_counter() - start


def _in_turns(turns: Sequence[Callable[[], list[Any]]], seconds: float) -> list[list[Any]]:
    """Everything that each of ``turns`` returned; they are called one after the other, again and again."""
    found: list[list[Any]] = [[] for _ in turns]
    deadline = time.monotonic() + seconds
    for number in range(_MOST_TURNS):
        if number >= _LEAST_TURNS and time.monotonic() > deadline:
            break
        for values, turn in zip(found, turns, strict=True):
            values += turn()
    return found

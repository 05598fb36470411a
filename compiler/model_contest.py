"""The last contest of a tuning session: inside the model, with the champions and without.

A kernel that is measured alone finds its input where its own last call left it. In the model another kernel
wrote it, on cores that may share the work in another way, and leaves its result to yet another one. So
champions are measured there, each together with the kernel that runs next, and those with which the two are
slower than with the default are dropped. So that each has its own effect, champions that run one after the
other are never measured in the same artifact.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from ..autotune.measurement import Measurement, Status
from ..autotune.records import read_records, write_records
from ..autotune.session import Session
from ..autotune.task_state import TaskState
from ..runtime import Executable
from ..targets.cpu.algorithm_choices import ALGORITHM_CHOICES
from ..targets.cpu.kernel_identity import KernelIdentity
from .reports.kernel_profile import RUNTIME, KernelCall, record_kernels
from .sample_inputs import sample_inputs

Inputs: TypeAlias = Mapping[str, Any]

_RUNS_PER_TURN = 4
_LEAST_TURNS = 6
_MOST_TURNS = 60


@dataclass(frozen=True)
class ModelContest:
    """How the champions did in the model.

    Attributes:
        kept, dropped: with how many the model was, and was not, as fast as with the defaults or faster.
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
    session: Session, build: Callable[..., Executable], seconds: float
) -> ModelContest | None:
    """Drops champions with which the model is slower than with the defaults; None if there is no champion.

    Args:
        session: has ended; what is found goes into its records.
        build: compiles the model; takes ``tuning_records``.
        seconds: to spend on the runs in which kernels are timed, and again on whole runs.

    Raises:
        ShapeError: an input of the model has a symbolic extent.
    """
    tuned = champions(session)
    if not tuned:
        return None
    baseline = _built(session, build, [])
    inputs = sample_inputs(baseline.inputs, {})
    groups = apart(tuned, _order(baseline, inputs))
    artifacts = [baseline, *(_built(session, build, group) for group in groups)]
    default_runs, *runs_of_groups = _kernels_in_turns(artifacts, inputs, seconds * len(artifacts) / 2)
    for group, runs in zip(groups, runs_of_groups, strict=True):
        for state in group:
            session.note_model_run(state, _measured(state, default_runs), _measured(state, runs))
    kept = champions(session)
    before, after = whole_runs_in_turns([baseline, _built(session, build, kept)], inputs, seconds)
    return ModelContest(len(kept), len(tuned) - len(kept), median(before), median(after))


def _built(session: Session, build: Callable[..., Executable], tuned: Sequence[TaskState]) -> Executable:
    """The model with the algorithms that the session's records hold, and with these champions."""
    used = {state.task.kernel for state in tuned}
    with some_records(session.options.records, lambda kernel: kernel in used or is_algorithm(kernel)) as path:
        return build(tuning_records=path)


def is_algorithm(kernel: KernelIdentity) -> bool:
    """Whether records of ``kernel`` choose the algorithm of an operator."""
    return kernel.template in ALGORITHM_CHOICES


@contextmanager
def some_records(records: Path, wanted: Callable[[KernelIdentity], bool]) -> Iterator[Path]:
    """A file with those of ``records`` whose kernels are ``wanted``, for as long as the context lasts."""
    with TemporaryDirectory(prefix="relaxc-") as folder:
        path = Path(folder) / "some.records"
        write_records(path, (r for r in read_records(records).records if wanted(r.kernel)))
        yield path


def champions(session: Session) -> list[TaskState]:
    """The tasks of which another schedule than the default is champion."""
    return [
        state for state in session.states if state.standing is not None and state.standing.knobs is not None
    ]


def _order(executable: Executable, inputs: Inputs) -> list[str]:
    """The names of the kernels that a run calls, in order."""
    (calls,) = record_kernels(executable, inputs, 1)
    return [call.name for call in _kernel_calls(calls)]


def apart(states: Sequence[TaskState], order: Sequence[str]) -> list[list[TaskState]]:
    """Groups of tasks, as few as a greedy choice finds, without kernels that run one after the other."""
    neighbours = {frozenset(pair) for pair in pairwise(order)}

    def may_join(state: TaskState, group: Sequence[TaskState]) -> bool:
        names = [name for other in group for name in other.task.names]
        return not any(frozenset(pair) in neighbours for pair in product(state.task.names, names))

    groups: list[list[TaskState]] = []
    for state in states:
        group = next((group for group in groups if may_join(state, group)), None)
        if group is None:
            groups.append([state])
        else:
            group.append(state)
    return groups


def _measured(state: TaskState, runs: Sequence[Mapping[str, float]]) -> Measurement:
    """The seconds of one call of the task's kernel and of the kernel that runs next, for every run."""
    per_call = (sum(run[name] for name in state.task.names) / state.task.calls for run in runs)
    return Measurement(Status.OK, tuple(per_call))


def _kernels_in_turns(
    executables: Sequence[Executable], inputs: Inputs, seconds: float
) -> list[list[Mapping[str, float]]]:
    """For each executable and every run, the seconds of all calls of a kernel and of those right behind."""

    def turn(executable: Executable) -> list[Mapping[str, float]]:
        return [
            with_next(_kernel_calls(calls)) for calls in record_kernels(executable, inputs, _RUNS_PER_TURN)
        ]

    return _in_turns([partial(turn, executable) for executable in executables], seconds)


def with_next(calls: Sequence[KernelCall]) -> Mapping[str, float]:
    times: defaultdict[str, float] = defaultdict(float)
    seconds = [(call.end - call.start) * 1e-9 for call in calls]
    for call, own, following in zip(calls, seconds, [*seconds[1:], 0.0], strict=True):
        times[call.name] += own + following
    return times


def _kernel_calls(calls: Sequence[KernelCall]) -> list[KernelCall]:
    return [call for call in calls if call.name != RUNTIME]


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

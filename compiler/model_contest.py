"""The last word of a tuning session: whole runs of the model, untuned and tuned, in several processes.

Where memory comes to lie differs between processes, and makes one or the other faster. So champions stay only
if the model with them is faster over all; if it is not, first those go that gained little, then all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..autotune.measurement import Measurement, RunOptions
from ..autotune.model_round import RoundError
from ..autotune.model_runs import time_whole_runs
from ..autotune.records import Purpose, read_records, write_records
from ..autotune.session import Session, joined
from ..autotune.standings import median_ratio
from ..autotune.task_state import TaskState
from ..runtime import Executable
from ..targets.cpu.algorithm_choices import ALGORITHM_CHOICES
from ..targets.cpu.kernel_identity import KernelIdentity
from .sample_inputs import sample_inputs

Build = Callable[..., Executable]
"""Compiles the model; takes ``tuning_records``."""

_PROCESSES = 5
# Champions that gain less are the first to go.
_SMALL_GAIN = 1.02


@dataclass(frozen=True)
class ModelContest:
    """How the champions did in the model.

    Attributes:
        kept, dropped: how many champions the model is faster with, and how many were given up.
        untuned: the median seconds of a run with the defaults.
        tuned: the same divided by what the champions that were kept gained, run for run beside the defaults.
    """

    kept: int
    dropped: int
    untuned: float
    tuned: float

    def __str__(self) -> str:
        runs = f"{self.untuned * 1e3:.2f} -> {self.tuned * 1e3:.2f} ms ({self.untuned / self.tuned:.2f}x)"
        return f"inside the model: {self.kept} tuned kernels kept, {self.dropped} dropped; a run takes {runs}"


def hold_model_contest(
    session: Session, untuned: Executable, build: Build, seconds: float, options: RunOptions
) -> ModelContest | None:
    """Drops champions until the model is not slower than with the defaults; None if there is no champion.

    Args:
        session: has ended; what is found goes into its records.
        untuned: the model with the defaults.
        build: compiles the model.
        seconds: to spend on runs in each process.
        options: how many threads run the model, and how far results may differ.

    Raises:
        ShapeError: an input of the model has a symbolic extent.
        RoundError: the model cannot be run; all champions stay.
    """
    first = champions(session)
    if not first:
        return None
    while tuned := champions(session):
        default, candidate = whole_runs([untuned, built_with(session, build, tuned)], seconds, options)
        if not default.ok:
            raise RoundError(f"no comparing of whole runs: {default.message}")
        gain = median_ratio(default, candidate)
        faster = gain >= 1.0
        for state in tuned if faster else _first_to_go(tuned):
            note_whole_runs(session, state, default, candidate)
        if faster:
            return ModelContest(len(tuned), len(first) - len(tuned), default.median, default.median / gain)
    return ModelContest(0, len(first), default.median, default.median)


def _first_to_go(tuned: Sequence[TaskState]) -> Sequence[TaskState]:
    """Those with small gains; all, where there are no others."""
    weak = [state for state in tuned if state.standing is not None and state.standing.gain < _SMALL_GAIN]
    return weak or tuned


def note_whole_runs(session: Session, state: TaskState, default: Measurement, tuned: Measurement) -> None:
    """Writes down how the model did with the champion of ``state`` and, beside it, with the default."""
    if state.standing is None or state.standing.knobs is None:
        raise ValueError(f"{state.task.name} has no champion")
    session.note_inside(Purpose.MODEL, state, [state.standing.knobs], [default, tuned])


def whole_runs(executables: Sequence[Executable], seconds: float, options: RunOptions) -> list[Measurement]:
    """For each executable the seconds of its runs in all processes; a failure where its results are wrong."""
    inputs = sample_inputs(executables[0].inputs, {})
    with TemporaryDirectory(prefix="relaxc-") as folder:
        paths = [Path(folder) / f"{number}.so" for number in range(len(executables))]
        for executable, path in zip(executables, paths, strict=True):
            executable.save(path)
        return runs_in_processes(paths, inputs, seconds, options, _PROCESSES)


def runs_in_processes(
    artifacts: Sequence[Path], inputs: Mapping[str, Any], seconds: float, options: RunOptions, processes: int
) -> list[Measurement]:
    """As ``time_whole_runs``, in so many processes one after the other, or until something fails."""
    found = [time_whole_runs(artifacts, inputs, seconds, options)]
    while len(found) < processes and all(each.ok for each in found[-1]):
        found.append(time_whole_runs(artifacts, inputs, seconds, options))
    return [joined(parts) for parts in zip(*found, strict=True)]


def built_with(session: Session, build: Build, tuned: Sequence[TaskState]) -> Executable:
    """The model with the algorithms that the session's records hold, and with the champions of ``tuned``."""
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

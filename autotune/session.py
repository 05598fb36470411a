"""A tuning session: which task is next, what is measured, what is written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np

from ..targets.registry import CpuTarget
from .measurement import Knobs, Measurement, Measurer
from .records import Entry, Purpose, ReadRecords, Record, TargetKey, append_record, read_records
from .search import Proposal, Search
from .task_scheduler import TaskProgress, next_task
from .task_state import TaskState, foreign_states, load_states
from .tasks import Task

# A contest is held so often, each time in a new process: where memory comes to lie differs between them.
_CONTEST_TURNS = 3


@dataclass(frozen=True)
class Budget:
    """When a session ends.

    Attributes:
        trials: of all tasks together, those of earlier sessions with the same records included.
        seconds: of this session.
        patience: trials of a task without a better schedule, after which it gets no more.
    """

    trials: int | None = None
    seconds: float | None = None
    patience: int = 96

    def part(self, share: float) -> Budget:
        """The same trials, in so large a part of the time."""
        return replace(self, seconds=None if self.seconds is None else share * self.seconds)

    def after(self, trials: int, seconds: float) -> Budget:
        """What is left of it."""
        return Budget(
            None if self.trials is None else max(0, self.trials - trials),
            None if self.seconds is None else max(0.0, self.seconds - seconds),
            self.patience,
        )


@dataclass(frozen=True)
class Limits:
    """What the machine can do at most, if that was measured: 1e9 operations and bytes a second."""

    gflops: float
    gbytes: float

    def of_ceiling(self, task: Task, seconds: float) -> float:
        """The least time that a call of ``task`` can take (its roofline), divided by ``seconds``."""
        return max(task.flops / self.gflops, task.bytes_moved / self.gbytes) * 1e-9 / seconds


@dataclass(frozen=True)
class TaskRow:
    """A task as reports show it.

    Attributes:
        state: all that is known of it.
        share: of the model's time with the defaults; None as long as the default was not measured.
        default_seconds, seconds: of one call, by the default and by the champion.
        gain: of the champion over the default.
        gflops: of the champion.
        of_ceiling: of the champion; None where the machine's limits are not known.
        exhausted: whether it gets no more trials.
    """

    state: TaskState
    share: float | None
    default_seconds: float
    seconds: float
    gain: float
    gflops: float
    of_ceiling: float | None
    exhausted: bool


@dataclass(frozen=True)
class SessionOptions:
    """How to tune.

    Attributes:
        records: the file.
        threads: that run a kernel, for the records.
        search: proposes.
        budget: when to end.
        batch: how many trials are measured together.
        seed: of every random choice.
    """

    records: Path
    threads: int
    search: Search
    budget: Budget
    batch: int = 8
    seed: int = 0


@dataclass
class Session:
    """Tunes tasks until the budget is spent.

    Attributes:
        states: of the tasks, with whatever earlier sessions have found.
        foreign: of other tasks in the same records, for the search to learn from.
        target: what to generate code for.
        key: what the records call it.
        measurer: measures.
        options: how to tune.
        limits: of the machine.
        show: is called with the session whenever something has changed.
    """

    states: Sequence[TaskState]
    foreign: Sequence[TaskState]
    target: CpuTarget
    key: TargetKey
    measurer: Measurer
    options: SessionOptions
    limits: Limits | None = None
    show: Callable[[Session], None] = lambda _session: None
    started: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Measures until the budget is spent or nothing is left to try, and writes down what it finds."""
        self.started = time.monotonic()
        self._measure_defaults()
        while self._settle_contests() or self._try_next():
            self.show(self)

    def _settle_contests(self) -> bool:
        """Holds a contest if a trial gave reason to; also for trials after which a session was killed."""
        for state in self.states:
            if (challenger := state.challenger()) is not None:
                self._contest(state, state.task.space.knobs(challenger))
                return True
        return False

    def _try_next(self) -> bool:
        """Measures a batch of trials; False if there is no budget, or nothing to try."""
        state = None if self.spent else self._next()
        if state is None:
            return False
        trials = [
            _Group(state, [state.task.space.knobs(proposal.point)], proposal.predicted)
            for proposal in self._propose(state)
        ]
        self._measure(Purpose.TRIAL, trials)
        return True

    @property
    def trials(self) -> int:
        """How many trials were made of all tasks."""
        return sum(len(state.gains) for state in self.states)

    @property
    def elapsed(self) -> float:
        """Seconds since the session began."""
        return time.monotonic() - self.started

    @property
    def spent(self) -> bool:
        """Whether the budget is used up."""
        budget = self.options.budget
        return (budget.trials is not None and self.trials >= budget.trials) or (
            budget.seconds is not None and self.elapsed >= budget.seconds
        )

    def rows(self) -> list[TaskRow]:
        """The tasks that could be measured, the costliest first."""
        seconds = [_default_seconds(state) for state in self.states]
        total = sum(
            state.task.calls * (each or 0.0) for state, each in zip(self.states, seconds, strict=True)
        )
        rows = [
            self._row(state, each, state.task.calls * each / total if total else None)
            for state, each in zip(self.states, seconds, strict=True)
            if each is not None
        ]
        return sorted(rows, key=lambda row: -(row.share or 0.0))

    def _row(self, state: TaskState, default_seconds: float, share: float | None) -> TaskRow:
        current = state.standing
        gain = current.gain if current else 1.0
        seconds = default_seconds / gain
        exhausted = (
            len(state.history.gains) >= len(state.task.space)
            or state.history.stale() >= self.options.budget.patience
        )
        return TaskRow(
            state=state,
            share=share,
            default_seconds=default_seconds,
            seconds=seconds,
            gain=gain,
            gflops=state.task.flops / seconds * 1e-9,
            of_ceiling=self.limits.of_ceiling(state.task, seconds) if self.limits else None,
            exhausted=exhausted,
        )

    def _measure_defaults(self) -> None:
        """Learns what every task costs, so that trials go where the time goes."""
        new = [state for state in self.states if not state.records]
        batch, seconds = self.options.batch, self.options.budget.seconds
        for first in range(0, len(new), batch):
            if seconds is not None and self.elapsed >= seconds:
                return
            self._measure(Purpose.BASELINE, [_Group(state) for state in new[first : first + batch]])
            self.show(self)

    def _next(self) -> TaskState | None:
        rows = self.rows()
        progress = [
            TaskProgress(
                row.share or 0.0, len(row.state.gains), row.state.gains, row.of_ceiling, row.exhausted
            )
            for row in rows
        ]
        chosen = next_task(progress)
        return None if chosen is None else rows[chosen].state

    def _propose(self, state: TaskState) -> list[Proposal]:
        made = len(state.history.gains)
        generator = np.random.default_rng([self.options.seed, int(state.task.kernel.structure, 16), made])
        count, allowed = self.options.batch, self.options.budget.trials
        if allowed is not None:
            count = min(count, allowed - self.trials)
        known = [(known.task, known.history) for known in (*self.states, *self.foreign)]
        return self.options.search.propose(state.task, known, count, generator)

    def _contest(self, state: TaskState, challenger: Knobs) -> None:
        current = state.standing
        champion = [current.knobs] if current is not None and current.knobs is not None else []
        self._measure(Purpose.CONTEST, [_Group(state, [*champion, challenger])], turns=_CONTEST_TURNS)

    def note_inside(
        self, purpose: Purpose, state: TaskState, schedules: Sequence[Knobs], measured: Sequence[Measurement]
    ) -> None:
        """Writes down how the default of ``state`` and some ``schedules`` did inside the model."""
        self._record(purpose, _Group(state, schedules), measured)

    def _measure(self, purpose: Purpose, groups: Sequence[_Group], turns: int = 1) -> None:
        """Measures each task's default with some schedules, ``turns`` times over; records what came of it."""
        candidates = [
            [group.state.task.candidate(knobs, self.target) for knobs in (None, *group.schedules)]
            for group in groups
        ]
        measured = self.measurer.measure(candidates * turns)
        for position, group in enumerate(groups):
            together = [joined(parts) for parts in zip(*measured[position :: len(groups)], strict=True)]
            self._record(purpose, group, together)

    def _record(self, purpose: Purpose, group: _Group, measured: Sequence[Measurement]) -> None:
        task = group.state.task
        record = Record(
            kernel=task.kernel,
            target=self.key,
            name=task.name,
            workload=task.numbers,
            purpose=purpose,
            entries=tuple(map(Entry, [task.default, *group.schedules], measured)),
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            predicted=group.predicted,
        )
        append_record(self.options.records, record)
        group.state.add(record)


@dataclass(frozen=True)
class _Group:
    """Schedules of a task that are measured with its default."""

    state: TaskState
    schedules: Sequence[Knobs] = ()
    predicted: float | None = None


def open_session(
    tasks: Sequence[Task], target: CpuTarget, measurer: Measurer, options: SessionOptions
) -> tuple[Session, tuple[str, ...]]:
    """A session that goes on where the file of records ends, and notices about that file."""
    read = read_records(options.records) if options.records.exists() else ReadRecords()
    key = TargetKey(target.mcpu, options.threads)
    states = load_states(tasks, read.records, key)
    foreign = foreign_states(tasks, read.records, key)
    return Session(states, foreign, target, key, measurer, options), read.notices


def joined(parts: Sequence[Measurement]) -> Measurement:
    """Measurements of one candidate as one: all their rounds, or the first failure."""
    failed = next((part for part in parts if not part.ok), None)
    if failed is not None:
        return failed
    return replace(parts[0], seconds=tuple(chain.from_iterable(part.seconds for part in parts)))


def _default_seconds(state: TaskState) -> float | None:
    """The median of the default's time over all records but those made inside the model."""
    times = sorted(
        record.entries[0].measurement.median
        for record in state.records
        if record.purpose not in (Purpose.MODEL, Purpose.MODEL_TRIAL) and record.entries[0].measurement.ok
    )
    return times[len(times) // 2] if times else None

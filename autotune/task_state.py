"""What is known of a task: a function of its records, so that a session can be killed and resumed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..targets.cpu.kernel_identity import KernelIdentity
from .records import Purpose, Record, TargetKey
from .search import History
from .space import SearchSpace
from .standings import Standing, median_ratio, standing
from .tasks import BYTES, FLOPS, Task

# A challenge is worth a contest only if the trial promised this much.
_PROMISING = 1.01


@dataclass
class TaskState:
    """A task on its way.

    Attributes:
        task: what is tuned.
        history: the points tried, and the default.
        records: everything that was measured, in order.
        gains: the best gain over the default after each trial.
        failures: how many candidates failed, by their status.
        inside: for each point tried inside the model, how many times faster than the default it was there, in
            every round; nothing if it, or the default beside it, failed.
    """

    task: Task
    history: History = field(default_factory=History)
    records: list[Record] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    inside: dict[int, list[float]] = field(default_factory=dict)
    _contested: set[int] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Takes note of a record, if it is about what the task's default and its space are now."""
        point = self.task.space.find(record.candidate.knobs)
        if point is None or dict(record.entries[0].knobs) != dict(self.task.default):
            return
        self.records.append(record)
        if record.purpose is Purpose.MODEL_TRIAL:
            self._add_inside(record)
        if record.purpose in (Purpose.MODEL_TRIAL, Purpose.MODEL):
            return
        default, found = record.entries[0].measurement, record.candidate.measurement
        self.history.gains[point] = default.median / found.median if found.ok and default.ok else 0.0
        if record.purpose is Purpose.CONTEST:
            self._contested.add(point)
        if record.purpose is not Purpose.TRIAL:
            return
        self.gains.append(self.history.best_gain)
        if not found.ok:
            self.failures[found.status.value] = self.failures.get(found.status.value, 0) + 1

    def _add_inside(self, record: Record) -> None:
        default = record.entries[0].measurement
        for entry in record.entries[1:]:
            point = self.task.space.find(entry.knobs)
            if point is not None:
                found = self.inside.setdefault(point, [])
                if default.ok and entry.measurement.ok:
                    found.append(median_ratio(default, entry.measurement))

    @property
    def standing(self) -> Standing | None:
        """The best schedule that stood a contest; None as long as the default was not measured."""
        return standing(self.records)

    @property
    def broken(self) -> str | None:
        """Why the default itself cannot be measured; None if it can, or was not tried."""
        baselines = [record for record in self.records if record.purpose is Purpose.BASELINE]
        if not baselines or any(record.candidate.measurement.ok for record in baselines):
            return None
        return baselines[-1].candidate.measurement.message

    def challenger(self) -> int | None:
        """A point whose trial promised to beat the champion; it was in no contest and did not fail inside."""
        current = self.standing
        bar = _PROMISING * (current.gain if current else 1.0)
        failed = {point for point, gains in self.inside.items() if not gains}
        fresh = [point for point in self.history.best_points(8) if point not in self._contested | failed]
        return next((point for point in fresh if self.history.gains[point] > bar), None)


def load_states(tasks: Sequence[Task], records: Iterable[Record], target: TargetKey) -> list[TaskState]:
    """A state for each task, from the records of its kernel and target."""
    states = {task.kernel: TaskState(task) for task in tasks}
    for record in records:
        if record.target == target and record.kernel in states:
            states[record.kernel].add(record)
    return list(states.values())


def foreign_states(tasks: Sequence[Task], records: Iterable[Record], target: TargetKey) -> list[TaskState]:
    """States of the kernels of other models, to learn from: their spaces are what was tried.

    Another template, or version of one, teaches nothing: its knobs and its workloads are others. Nor does
    a record from when a template's workloads had other numbers.
    """
    own = {task.kernel for task in tasks}
    numbers = {(task.kernel.template, task.kernel.version): set(task.workload) for task in tasks}
    groups: dict[KernelIdentity, list[Record]] = {}
    for record in records:
        names = numbers.get((record.kernel.template, record.kernel.version))
        related = names == record.workload.keys() - {FLOPS, BYTES}
        if related and record.target == target and record.kernel not in own:
            groups.setdefault(record.kernel, []).append(record)
    tried = [group for group in groups.values() if any(record.purpose is Purpose.TRIAL for record in group)]
    foreign = [_foreign_task(group) for group in tried]
    return load_states(foreign, (record for group in tried for record in group), target)


def _foreign_task(records: Sequence[Record]) -> Task:
    latest = records[-1]
    default = latest.entries[0].knobs
    knobs = {tuple(entry.knobs.items()): entry.knobs for record in records for entry in record.entries}
    workload = dict(latest.workload)
    flops, moved = workload.pop(FLOPS, 0), workload.pop(BYTES, 0)
    same_names = [point for point in knobs.values() if point.keys() == default.keys()]
    space = SearchSpace(same_names)
    return Task(latest.kernel, (latest.name,), 0, "", workload, space, default, (), flops, moved)

"""Which task the next trials go to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskProgress:
    """How far the tuning of a task has come.

    Attributes:
        share: of the model's time that its default takes, all calls together.
        trials: how many were made.
        gains: the best gain over the default after each trial.
        of_ceiling: which part of the machine's limits the best schedule reaches; None if unknown.
        exhausted: whether nothing is left to try, or nothing was found for long.
    """

    share: float
    trials: int
    gains: Sequence[float]
    of_ceiling: float | None
    exhausted: bool


# Gains are estimated from this many trials back.
_WINDOW = 16
# What the first trials of a task may save in the best case, where its ceiling is not known.
_HOPE = 0.3


def next_task(tasks: Sequence[TaskProgress]) -> int | None:
    """The task from which the most time is expected to be saved per trial; None if all are exhausted.

    After Zheng et al., "Ansor" (OSDI 2020), section 6: the gradient of the model's time with respect to the
    trials spent on a task is the mean of what its last trials saved, and of what they might save if the rest
    of the way to the ceiling is gone in as many trials as were made.
    """
    expected = [-1.0 if task.exhausted else expected_saving(task) for task in tasks]
    best = max(range(len(tasks)), key=expected.__getitem__, default=None)
    return None if best is None or tasks[best].exhausted else best


def expected_saving(task: TaskProgress) -> float:
    """The part of the model's time that the next trial of ``task`` is expected to save."""
    if not task.trials:
        return task.share * _HOPE
    now = 1 / task.gains[-1]
    before = 1 / (task.gains[-1 - _WINDOW] if len(task.gains) > _WINDOW else 1.0)
    past = (before - now) / min(task.trials, _WINDOW)
    possible = now * (_HOPE if task.of_ceiling is None else max(0.0, 1 - task.of_ceiling) * _HOPE)
    return task.share * (past + possible / task.trials) / 2

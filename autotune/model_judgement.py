"""What each kernel is worth inside a model, from the times of runs in which all kernels varied at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Times = np.ndarray[Any, np.dtype[np.float64]]
Choices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Rotation:
    """Which candidate each call gets, so that no two tasks vary together.

    A block has as many turns as the task with the most candidates has of them. In a block, every candidate
    meets every call of its task, and which candidates of other tasks it meets there is drawn anew.

    Attributes:
        tasks: for each call of a run its task, or -1.
        counts: how many candidates each task has.
    """

    tasks: Sequence[int]
    counts: Sequence[int]

    @property
    def turns(self) -> int:
        """Of a block."""
        return max(self.counts)

    def block(self, generator: np.random.Generator) -> Choices:
        """``[turns, calls]``: numbers of candidates; -1 for calls of no task."""
        orders = [generator.permutation(self.turns) for _ in self.counts]
        seen = [0] * len(self.counts)
        chosen = np.full((self.turns, len(self.tasks)), -1)
        for call, task in enumerate(self.tasks):
            if task >= 0:
                chosen[:, call] = np.roll(orders[task], seen[task]) % self.counts[task]
                seen[task] += 1
        return chosen


def candidate_seconds(rotation: Rotation, times: Times, chosen: Choices) -> list[list[tuple[float, ...]]]:
    """For each task and candidate the seconds of a call in every block.

    A call counts with what it does to the one behind it: by how much that took longer than with its own
    candidate it usually takes. So neither the neighbours' candidates nor the machine's pace decide, if
    values of one block are compared. A quicker call behind it repays no more than half of its own time, so
    that of a tiny one a time is left.

    Args:
        rotation: the plan.
        times: ``[blocks, turns, calls]``, seconds of each call.
        chosen: likewise, as the plan has it.
    """
    cost = times.copy()
    cost[:, :, :-1] += _surplus(times, chosen)[:, :, 1:]
    cost = np.maximum(cost, times / 2)
    return [
        [_by_block(cost, chosen, _calls_of(rotation, task), candidate) for candidate in range(count)]
        for task, count in enumerate(rotation.counts)
    ]


def _surplus(times: Times, chosen: Choices) -> Times:
    """By how much each call took longer than the median with the same candidate."""
    surplus = times.copy()
    for call in range(times.shape[2]):
        for candidate in np.unique(chosen[:, :, call]):
            alike = chosen[:, :, call] == candidate
            surplus[:, :, call][alike] -= np.median(times[:, :, call][alike])
    return surplus


def _calls_of(rotation: Rotation, task: int) -> list[int]:
    return [call for call, owner in enumerate(rotation.tasks) if owner == task]


def _by_block(cost: Times, chosen: Choices, calls: Sequence[int], candidate: int) -> tuple[float, ...]:
    """The mean over the calls of what the candidate costs there, for each block."""
    mine = chosen[:, :, calls] == candidate
    per_call = np.where(mine, cost[:, :, calls], 0.0).sum(axis=1) / mine.sum(axis=1)
    return tuple(float(value) for value in per_call.mean(axis=1))

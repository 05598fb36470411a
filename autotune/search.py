"""How the next schedules to try are chosen.

A search keeps no state: it decides from what was measured so far and a generator of random numbers, so that a
session that is killed and resumed goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .space import SearchSpace
from .tasks import Task


@dataclass
class History:
    """What was measured of a task.

    Attributes:
        gains: for each point tried, how many times faster than the default it was; 0 if it failed.
    """

    gains: dict[int, float] = field(default_factory=dict)

    @property
    def best_gain(self) -> float:
        """The largest gain; 1 as long as nothing beat the default."""
        return max(1.0, *self.gains.values()) if self.gains else 1.0

    def best_points(self, count: int) -> list[int]:
        """The points with the largest gains, failures left out."""
        ordered = sorted(self.gains, key=lambda point: -self.gains[point])
        return [point for point in ordered[:count] if self.gains[point] > 0]

    def stale(self) -> int:
        """How many trials were made since the gain last rose by more than noise."""
        best, since = 1.0, 0
        for gain in self.gains.values():
            since += 1
            if gain > best * 1.01:
                best, since = gain, 0
        return since


Knowledge = Sequence[tuple[Task, History]]
"""All tasks of a session, and those of earlier sessions, with what was measured of each."""


@dataclass(frozen=True)
class Proposal:
    """A point to try, and the gain over the default that was predicted of it, if any was."""

    point: int
    predicted: float | None = None


class Search(Protocol):
    """Proposes points of one task's space."""

    def propose(
        self, task: Task, knowledge: Knowledge, count: int, generator: np.random.Generator
    ) -> list[Proposal]:
        """At most ``count`` different points that were not tried; fewer where the space is exhausted."""


def untried(space: SearchSpace, history: History) -> list[int]:
    """The points that are left."""
    return [point for point in range(len(space)) if point not in history.gains]


def history_of(task: Task, knowledge: Knowledge) -> History:
    """What was measured of ``task``."""
    return next((history for known, history in knowledge if known.kernel == task.kernel), History())


class RandomSearch:
    """Every point is as likely as any other."""

    def propose(
        self, task: Task, knowledge: Knowledge, count: int, generator: np.random.Generator
    ) -> list[Proposal]:
        """See ``Search``."""
        left = untried(task.space, history_of(task, knowledge))
        return [Proposal(left[i]) for i in generator.permutation(len(left))[:count]]


class GridSearch:
    """The points in the order of their numbers."""

    def propose(
        self, task: Task, knowledge: Knowledge, count: int, generator: np.random.Generator
    ) -> list[Proposal]:
        """See ``Search``."""
        return [Proposal(point) for point in untried(task.space, history_of(task, knowledge))[:count]]


def _evolutionary() -> Search:
    from .evolutionary_search import EvolutionarySearch

    return EvolutionarySearch()


SEARCHES: Mapping[str, Callable[[], Search]] = {
    "xgboost": _evolutionary,
    "random": RandomSearch,
    "grid": GridSearch,
}
"""By the name that ``relaxc tune --search`` takes."""

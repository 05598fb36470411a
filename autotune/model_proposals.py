"""Which schedules of a task are tried next inside the model."""

from __future__ import annotations

from itertools import chain, zip_longest

import numpy as np

from .measurement import Measurement
from .records import Purpose
from .task_state import TaskState

# Schedules that were slower than this part of the default's pace when measured alone are not tried.
_LEAST_GAIN = 0.97
# So many of those that were fastest alone are tried.
_FASTEST = 8
# Leaders are measured again in every round: a lucky one does not lead for long.
LEADERS = 2


def inside_gain(state: TaskState, point: int) -> float:
    """How many times faster than the default a point is inside the model; 0 if it failed there.

    The lower third over all rounds: some schedules are faster only while something else uses the machine's
    memory, and slower at other times.
    """
    gains = sorted(state.inside.get(point, []))
    return gains[(len(gains) - 1) // 3] if gains else 0.0


def leaders(state: TaskState, count: int = LEADERS) -> list[int]:
    """The points that did best inside the model, the best one first; the default is none of them."""
    tried = [point for point in state.inside if inside_gain(state, point) > 0]
    return sorted(tried, key=lambda point: -inside_gain(state, point))[:count]


def champion(state: TaskState) -> list[int]:
    """The point that stood its last contest, if there is one and it is not known to fail in the model."""
    point = _champion(state)
    return [] if point is None or state.inside.get(point) == [] else [point]


def failure_of_champion(state: TaskState) -> tuple[Measurement, Measurement] | None:
    """What a round measured of the default and of the champion, if the champion is known to fail there."""
    point = _champion(state)
    if point is None or state.inside.get(point) != []:
        return None
    rounds = (record for record in reversed(state.records) if record.purpose is Purpose.MODEL_TRIAL)
    pairs = ((record.entries[0].measurement, entry) for record in rounds for entry in record.entries[1:])
    found = (
        (default, entry.measurement)
        for default, entry in pairs
        if default.ok and state.task.space.find(entry.knobs) == point
    )
    return next(found, None)


def _champion(state: TaskState) -> int | None:
    current = state.standing
    return state.task.space.find(current.knobs) if current is not None and current.knobs else None


def proposals(state: TaskState, fresh: int, generator: np.random.Generator) -> list[int]:
    """Leaders, the champion, and at most ``fresh`` points that are new to the model.

    New ones come in turns from those that were fastest alone, and from the neighbours of leaders.
    """
    known = list(dict.fromkeys([*leaders(state), *champion(state)]))
    pairs = zip_longest(_fastest_alone(state), _neighbours(state, generator))
    new = dict.fromkeys(point for point in chain.from_iterable(pairs) if point is not None)
    return [*known, *[point for point in new if point not in known][:fresh]]


def _fastest_alone(state: TaskState) -> list[int]:
    gains = state.history.gains
    best = state.history.best_points(_FASTEST + 1)
    return [point for point in best if _is_new(state, point) and gains[point] > _LEAST_GAIN]


def _neighbours(state: TaskState, generator: np.random.Generator) -> list[int]:
    """Points new to the model with one knob changed, of the best leader first."""
    space, default = state.task.space, state.task.space.find(state.task.default)
    centres = [point for point in leaders(state) if inside_gain(state, point) > 1]
    if not centres and default is not None:
        centres = [default]
    shuffled = (generator.permutation(space.neighbours(centre)).tolist() for centre in centres)
    return [int(point) for point in chain.from_iterable(shuffled) if _is_new(state, int(point))]


def _is_new(state: TaskState, point: int) -> bool:
    """Whether it was not tried inside the model, nor failed or was much slower alone."""
    if point == state.task.space.find(state.task.default) or point in state.inside:
        return False
    return state.history.gains.get(point, 1.0) > _LEAST_GAIN

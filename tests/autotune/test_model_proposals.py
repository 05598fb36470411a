"""What is tried inside the model: what did well alone, what did well inside, and its neighbours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from relaxc.autotune.measurement import Measurement, Status
from relaxc.autotune.model_proposals import inside_gain, leaders, proposals
from relaxc.autotune.records import Entry, Purpose, Record, TargetKey
from relaxc.autotune.task_state import TaskState
from tests.autotune.conftest import DEFAULT, toy_task


def point(rows: int) -> int:
    found = toy_task().space.find({**DEFAULT, "rows": rows})
    assert found is not None
    return found


def state(alone: Mapping[int, float], *inside: Mapping[int, float]) -> TaskState:
    """Gains over the default by the number of rows, alone and in rounds inside the model; 0 for a failure."""
    made = TaskState(toy_task())
    for rows, gain in alone.items():
        made.add(record(Purpose.TRIAL, {rows: gain}))
    for gains in inside:
        made.add(record(Purpose.MODEL_TRIAL, gains))
    return made


def record(purpose: Purpose, gains: Mapping[int, float]) -> Record:
    entries = [Entry(DEFAULT, Measurement(Status.OK, (1.0,) * 10))]
    for rows, gain in gains.items():
        found = Measurement(Status.OK, (1 / gain,) * 10) if gain else Measurement(Status.RUN_ERROR)
        entries.append(Entry({**DEFAULT, "rows": rows}, found))
    kernel = toy_task().kernel
    return Record(kernel, TargetKey("znver5", 2), "conv", {}, purpose, tuple(entries), "2026-01-01")


def proposed(of: TaskState, fresh: int) -> list[int]:
    return proposals(of, fresh, np.random.default_rng(0))


def test_the_fastest_alone_come_first() -> None:
    assert proposed(state({8: 1.3, 9: 0.5, 10: 1.4}), 3)[::2] == [point(10), point(8)]


def test_neighbours_of_the_default_differ_in_one_knob() -> None:
    space = toy_task().space
    for found in proposed(state({}), 5):
        assert sum(space.knobs(found)[name] != value for name, value in DEFAULT.items()) == 1


def test_leaders_are_measured_again_and_lead_to_their_neighbours() -> None:
    space = toy_task().space
    found = proposed(state({8: 1.3}, {8: 1.2, 9: 1.1, 10: 1.05}), 3)
    assert found[:2] == [point(8), point(9)]
    assert all(
        sum(a != b for a, b in zip(space.points[each], space.points[point(8)], strict=True)) == 1
        for each in found[2:]
    )


def test_nothing_that_failed_is_tried_again() -> None:
    failed = state({8: 1.3, 9: 0.0, 10: 1.2}, {8: 0.0})
    found = proposed(failed, 100)
    assert point(8) not in found
    assert point(9) not in found
    assert point(10) in found


def test_the_default_is_never_proposed() -> None:
    assert point(4) not in proposed(state({4: 1.0, 8: 1.1}), 100)


def test_what_is_fast_now_and_then_does_not_lead() -> None:
    """As while something else uses the memory; most rounds count."""
    changing = state({}, {8: 1.3, 9: 1.05}, {8: 0.8, 9: 1.04}, {8: 0.8, 9: 1.05})
    assert leaders(changing) == [point(9), point(8)]
    assert inside_gain(changing, point(10)) == 0.0

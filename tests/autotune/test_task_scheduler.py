"""The next trials go where they are expected to save the most time."""

from __future__ import annotations

from relaxc.autotune.task_scheduler import TaskProgress, expected_saving, next_task

FRESH = TaskProgress(share=0.5, trials=0, gains=[], of_ceiling=0.5, exhausted=False)


def after(*gains: float, share: float = 0.5, of_ceiling: float | None = 0.5) -> TaskProgress:
    """A task whose best gain after each trial was this."""
    return TaskProgress(share, len(gains), gains, of_ceiling, exhausted=False)


def test_what_takes_more_time_comes_first() -> None:
    small = TaskProgress(0.1, 0, [], 0.5, exhausted=False)
    assert next_task([small, FRESH]) == 1


def test_a_task_that_stopped_improving_yields_to_one_that_improves() -> None:
    assert next_task([after(*[1.0] * 16), after(*[1.0] * 15, 1.5)]) == 1


def test_near_the_ceiling_there_is_less_to_gain() -> None:
    assert expected_saving(after(1.0, of_ceiling=0.95)) < expected_saving(after(1.0, of_ceiling=0.3))
    assert expected_saving(after(1.0, of_ceiling=1.5)) == 0.0


def test_an_exhausted_task_gets_nothing() -> None:
    exhausted = TaskProgress(0.9, 0, [], None, exhausted=True)
    assert next_task([exhausted, FRESH]) == 1
    assert next_task([exhausted]) is None
    assert next_task([]) is None

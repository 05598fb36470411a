"""Searches propose what was not tried, the same for the same seed, and good schedules soon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxc.autotune.search import SEARCHES, History, Search
from relaxc.autotune.tasks import Task
from tests.autotune.conftest import DEFAULT, toy_task, toy_time


def gain(task: Task, point: int) -> float:
    """As the session computes it."""
    seconds = toy_time(task.space.knobs(point))
    return toy_time(DEFAULT) / seconds if seconds > 0 else 0.0


def trials_to_reach(search: Search, task: Task, part: float, seed: int) -> int:
    """How many trials it takes to find a schedule that is at least ``part`` as fast as the best."""
    best = max(gain(task, point) for point in range(len(task.space)))
    history = History()
    while history.best_gain < part * best:
        generator = np.random.default_rng([seed, len(history.gains)])
        for proposal in search.propose(task, [(task, history)], 4, generator):
            history.gains[proposal.point] = gain(task, proposal.point)
    return len(history.gains)


@pytest.mark.parametrize("name", SEARCHES)
def test_proposals_are_untried_and_different_until_none_is_left(name: str) -> None:
    pytest.importorskip("xgboost")
    task, search = toy_task(), SEARCHES[name]()
    task = replace(task, space=type(task.space)([task.space.knobs(p) for p in range(40)]))
    history = History()
    generator = np.random.default_rng(0)
    for _ in range(10):
        proposals = search.propose(task, [(task, history)], 4, generator)
        assert len({proposal.point for proposal in proposals} - history.gains.keys()) == 4
        history.gains |= {proposal.point: gain(task, proposal.point) for proposal in proposals}
    assert search.propose(task, [(task, history)], 4, generator) == []


@pytest.mark.parametrize("name", SEARCHES)
def test_a_seed_decides_everything(name: str) -> None:
    pytest.importorskip("xgboost")
    task = toy_task()
    history = History({point: gain(task, point) for point in range(0, 200, 9)})
    first, second = (
        SEARCHES[name]().propose(task, [(task, history)], 6, np.random.default_rng(7)) for _ in range(2)
    )
    assert first == second


def test_the_cost_model_needs_at_most_half_of_the_trials_of_chance() -> None:
    pytest.importorskip("xgboost")
    needed = {
        name: np.median([trials_to_reach(SEARCHES[name](), toy_task(), 0.95, seed) for seed in range(5)])
        for name in ("xgboost", "random")
    }
    assert needed["xgboost"] <= needed["random"] / 2


def test_a_similar_task_lends_its_best_schedule() -> None:
    pytest.importorskip("xgboost")
    task, other = toy_task(), toy_task("other", width=28)
    best = other.space.find({"rows": 14, "vectors": 2, "unroll": 1})
    assert best is not None
    known = [(task, History()), (other, History({best: 2.0, 0: 1.0}))]
    search = SEARCHES["xgboost"]()
    first = search.propose(task, known, 4, np.random.default_rng(1))
    assert best in [proposal.point for proposal in first]


def test_a_history_knows_for_how_long_nothing_was_found() -> None:
    history = History({0: 1.2, 1: 1.1, 2: 0.0, 3: 1.205})
    assert history.stale() == 3  # half a per cent is noise
    assert history.best_gain == 1.205
    assert history.best_points(9) == [3, 0, 1]
    assert History({5: 0.5}).best_gain == 1.0

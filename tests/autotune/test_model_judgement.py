"""Many kernels vary at once; what each candidate is worth is found nevertheless."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest

from relaxc.autotune.model_judgement import Choices, Rotation, Times, candidate_seconds

# Calls of task 0, task 1, none, task 0 again.
ROTATION = Rotation(tasks=(0, 1, -1, 0), counts=(4, 2))


def plan(blocks: int) -> Choices:
    generator = np.random.default_rng(0)
    return np.array([ROTATION.block(generator) for _ in range(blocks)])


def judged(times: Times, chosen: Choices) -> list[list[float]]:
    return [[median(each) for each in task] for task in candidate_seconds(ROTATION, times, chosen)]


def test_every_candidate_meets_every_call_of_its_task_in_a_block() -> None:
    for block in plan(5):
        assert sorted(block[:, 0]) == sorted(block[:, 3]) == [0, 1, 2, 3]
        assert sorted(block[:, 1]) == [0, 0, 1, 1]
        assert set(block[:, 2]) == {-1}


def test_tasks_do_not_vary_together() -> None:
    chosen = plan(200)
    met = {(int(a), int(b)) for a, b in chosen[:, :, :2].reshape(-1, 2)}
    assert len(met) == 8


def test_a_candidate_is_worth_its_own_time() -> None:
    chosen = plan(50)
    own = np.array([1.0, 2.0, 3.0, 4.0])
    times = own[chosen] * (chosen >= 0) + 1.0
    first, second = judged(times, chosen)
    assert first == pytest.approx([2.0, 3.0, 4.0, 5.0])
    assert second == pytest.approx([2.0, 3.0])


def test_what_it_does_to_the_next_call_counts() -> None:
    """Candidate 1 of task 1 leaves its result where the call behind it takes a second longer."""
    chosen = plan(50)
    times = np.ones(chosen.shape)
    times[:, :, 2] += chosen[:, :, 1] == 1
    _, (default, other) = judged(times, chosen)
    assert other - default == pytest.approx(1.0, abs=0.3)


def test_the_choice_of_the_neighbour_does_not_count() -> None:
    """Task 1 has a very slow candidate; that is no fault of the task before it."""
    chosen = plan(50)
    times = np.ones(chosen.shape)
    times[:, :, 1] += 9.0 * (chosen[:, :, 1] == 1)
    first, _ = judged(times, chosen)
    assert first == pytest.approx([1.0] * 4)


def test_a_slower_machine_slows_all_candidates_of_a_block() -> None:
    chosen = plan(50)
    times = 1.0 + chosen.astype(np.float64)
    times[25:] *= 3.0
    seconds = candidate_seconds(ROTATION, times, chosen)
    ratios = [b / a for a, b in zip(seconds[1][0], seconds[1][1], strict=True)]
    assert median(ratios) > 1.2


def test_what_a_tiny_call_costs_stays_a_time() -> None:
    """The call behind it takes a hundred times as long, and not always the same."""
    chosen = plan(50)
    times = np.ones(chosen.shape)
    times[:, :, 2] = np.random.default_rng(1).uniform(50.0, 150.0, chosen.shape[:2])
    seconds = candidate_seconds(ROTATION, times, chosen)
    assert all(second > 0 for candidates in seconds for each in candidates for second in each)

"""How many threads a call gets."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

import relaxc
from relaxc.runtime.library import load_runtime
from relaxc.runtime.thread_pool import call_with_threads

R = TypeVar("R")


def workers() -> int:
    return int(load_runtime().get_global_func("runtime.NumThreads")())


def in_fresh_thread(function: Callable[[], R]) -> R:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_a_call_gets_as_many_threads_as_it_asks_for() -> None:
    assert in_fresh_thread(lambda: call_with_threads(3, workers)) == 3


def test_calls_of_one_thread_may_ask_for_more_and_for_fewer() -> None:
    def calls() -> list[int]:
        return [call_with_threads(count, workers) for count in (2, 1, 4, 2, 4, 1)]

    assert in_fresh_thread(calls) == [2, 1, 4, 2, 4, 1]


def test_a_pool_that_someone_else_made_too_small_is_no_limit() -> None:
    def calls() -> int:
        load_runtime().get_global_func("runtime.config_threadpool")(-3, 1, ["0"])
        return call_with_threads(3, workers)

    assert in_fresh_thread(calls) == 3


def test_the_callers_affinity_stays_as_it_was() -> None:
    def affinity_around_a_call() -> tuple[set[int], set[int]]:
        before = os.sched_getaffinity(0)
        call_with_threads(2, workers)
        return before, os.sched_getaffinity(0)

    before, after = in_fresh_thread(affinity_around_a_call)
    assert before == after


def test_arguments_and_results_are_handed_through_every_way() -> None:
    def calls() -> list[tuple[int, int]]:
        return [call_with_threads(count, divmod, 7, 3) for count in (1, 2, 1)]

    assert in_fresh_thread(calls) == [(2, 1)] * 3


def test_a_forked_child_runs_with_threads_of_its_own(dense: Path) -> None:
    executable = relaxc.load(dense, num_threads=2)
    x = np.ones((64, 3), np.float32)
    executable.run({"x": x})
    child = os.fork()
    if child == 0:
        # A pool whose threads did not survive the fork would hang here; the alarm then ends the child.
        import signal

        signal.alarm(120)
        results = executable.run({"x": x})
        os._exit(0 if results["hidden"].shape == (64, 4) and threading.active_count() > 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

"""Cases run in processes that may crash and hang."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from benchmarks.isolation import run_isolated
from benchmarks.outcome import Outcome

_begun: list[str] = []


def _misbehaving(case: str) -> Outcome:
    """Does what the case is called."""
    _begun.append(case)
    kind = case.partition("-")[0]
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "exit":
        os._exit(3)
    elif kind == "loop":
        while True:
            pass
    elif kind == "sleep":
        time.sleep(1000)
    elif kind == "victim" and len(_begun) > 1:
        os.kill(os.getpid(), signal.SIGABRT)
    elif kind == "memory":
        np.zeros(1 << 40, np.uint8)
    return Outcome(True, reason=case)


def _run(names: list[str], limit_s: float = 20) -> dict[str, Outcome]:
    return dict(zip(names, run_isolated(_misbehaving, names, 2, limit_s), strict=True))


def test_all_outcomes_come_in_the_order_of_the_cases() -> None:
    names = [f"fine-{index}" for index in range(20)]
    assert [outcome.reason for outcome in _run(names).values()] == names


@pytest.mark.parametrize(
    ("name", "limit_s", "cause", "reason"),
    [
        ("crash", 20, "crash", "the process ended with SIGSEGV"),
        ("exit", 20, "crash", "the process ended with exit code 3"),
        ("loop", 0.5, "hang", "not done after 0.5 s"),
        ("sleep", 0.5, "hang", "not done after 0.5 s"),
        ("memory", 20, "out of memory", "more than 8 GB were asked for"),
    ],
)
def test_a_bad_case_fails_alone(name: str, limit_s: float, cause: str, reason: str) -> None:
    outcomes = _run(["fine-1", "fine-2", name, "fine-3", "fine-4"], limit_s)
    bad = outcomes.pop(name)
    assert (bad.passed, bad.cause, bad.reason) == (False, cause, reason)
    assert all(outcome.passed for outcome in outcomes.values())


def test_the_victim_of_an_earlier_case_gets_a_fresh_process() -> None:
    assert all(outcome.passed for outcome in _run(["fine-1", "fine-2", "fine-3", "victim-1"]).values())

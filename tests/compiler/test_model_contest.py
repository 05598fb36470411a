"""Which kernels share an artifact in the contest inside the model, and what is counted there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from relaxc.compiler.model_contest import apart, with_next
from relaxc.compiler.reports.kernel_profile import KernelCall


def state(*names: str) -> Any:
    """All that a grouping asks of a task's state."""
    return SimpleNamespace(task=SimpleNamespace(names=names))


def grouped(order: str, *states: Any) -> list[list[str]]:
    return [["".join(s.task.names) for s in group] for group in apart(states, list(order))]


def test_neighbours_are_in_different_groups() -> None:
    assert grouped("abcd", state("a"), state("b"), state("c"), state("d")) == [["a", "c"], ["b", "d"]]


def test_kernels_that_are_never_neighbours_share_a_group() -> None:
    assert grouped("axbxc", state("a"), state("b"), state("c")) == [["a", "b", "c"]]


def test_a_kernel_may_follow_itself() -> None:
    assert grouped("aab", state("a"), state("b")) == [["a"], ["b"]]


def test_all_names_of_a_kernel_count() -> None:
    assert grouped("aybz", state("a", "z"), state("b")) == [["az"], ["b"]]


def test_every_call_counts_with_the_one_behind_it() -> None:
    ends = {"a": (0, 1), "b": (5, 7), "c": (7, 11)}
    calls = [KernelCall(name, start * 10**9, end * 10**9, 0) for name, (start, end) in ends.items()]
    assert with_next(calls) == pytest.approx({"a": 3.0, "b": 6.0, "c": 4.0})
    assert with_next([*calls, calls[0]])["a"] == pytest.approx(4.0)

"""Building and timing real kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tvm import ir, te, tirx

from relaxc.autotune.build_kernel import build_kernel
from relaxc.autotune.local_measurer import LocalMeasurer
from relaxc.autotune.measurement import ArgumentSpec, Candidate, RunOptions, Status
from relaxc.autotune.run_kernels import (
    Argument,
    compare_results,
    interval_width,
    run_kernels,
    time_in_turns,
)
from relaxc.runtime.tensors import ElementType
from relaxc.targets.registry import CpuTarget

OPTIONS = RunOptions(threads=1, repetitions=(6, 8), max_seconds=0.1)


def kernel(compute: Callable[[tirx.Expr], tirx.Expr]) -> str:
    """A function of 1,000 elements as JSON."""
    x = te.placeholder((1000,), name="x")
    y = te.compute((1000,), lambda i: compute(x[i]), name="y")
    text: str = ir.save_json(te.create_prim_func([x, y]))
    return text


def test_a_group_is_timed_and_compared(native: CpuTarget) -> None:
    double = Candidate(kernel(lambda x: x * 2.0), None, native, copies=(3, 1))
    built = build_kernel(double)
    assert built.arguments == (ArgumentSpec((1000,), "float32", 3), ArgumentSpec((1000,), "float32"))
    wrong = build_kernel(replace(double, kernel=kernel(lambda x: x * 2.01)))
    first, second, third = run_kernels([built, wrong, built], OPTIONS)
    assert first.ok
    assert third.ok
    assert 6 <= len(first.seconds) == len(third.seconds)
    assert second.status is Status.WRONG_RESULT
    assert second.seconds == ()


def test_what_a_measurer_cannot_build_it_reports(native: CpuTarget) -> None:
    good = Candidate(kernel(lambda x: x + 1.0), None, native)
    foreign = replace(good, knobs={"rows": 3})
    measurer = LocalMeasurer(OPTIONS)
    (ran, refused), (lost,) = measurer.measure([[good, foreign], [replace(good, kernel="{}")]])
    measurer.close()
    assert ran.ok
    assert ran.build_seconds > 0
    assert refused.status is Status.BUILD_ERROR
    assert "rows" in refused.message
    assert lost.status is Status.BUILD_ERROR


def test_results_are_compared_at_the_scale_of_the_largest() -> None:
    expected = [np.array([1000.0, 0.001, np.nan, np.inf])]
    near = [np.array([1000.0, 0.002, np.nan, np.inf])]
    assert compare_results(near, expected, 1e-4).ok
    assert not compare_results([near[0] * 1.001], expected, 1e-4).ok
    assert not compare_results([np.array([1000.0, 0.001, 0.0, np.inf])], expected, 1e-4).ok
    assert not compare_results([np.array([1000.0, np.nan, np.nan, np.inf])], expected, 1e-4).ok
    assert compare_results([np.zeros(0)], [np.zeros(0)], 1e-4).ok


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_results_may_differ_by_their_rounding(dtype: str) -> None:
    kind = ElementType.named(dtype).numpy
    expected = np.array([1.0, 0.5]).astype(kind)
    next_number = np.array([1.0 + (2**-7 if dtype == "bfloat16" else 2**-10), 0.5]).astype(kind)
    assert compare_results([next_number], [expected], 1e-4).ok
    assert not compare_results([np.array([1.1, 0.5]).astype(kind)], [expected], 1e-4).ok


def test_copies_of_an_argument_hold_the_same_values() -> None:
    argument = Argument.random(ArgumentSpec((3, 5), "float32", copies=3), np.random.default_rng(0))
    assert len(argument.tensors) == 3
    for tensor in argument.tensors:
        np.testing.assert_array_equal(np.from_dlpack(tensor), argument.array)
    integers = Argument.random(ArgumentSpec((4,), "int64"), np.random.default_rng(0))
    np.testing.assert_array_equal(integers.array, 1)


class Clock:
    """In the place of ``time``, on a machine that does nothing else."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        """See ``time``."""
        return self.now

    def perf_counter(self) -> float:
        """See ``time``."""
        return self.now * 1e-9

    def calls(self, *milliseconds: float) -> Callable[[], None]:
        """A call that takes so long, the times in turn."""
        times = itertools.cycle(milliseconds)

        def call() -> None:
            self.now += round(next(times) * 1e6)

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("relaxc.autotune.run_kernels.time", clock)
    monkeypatch.setattr("relaxc.autotune.run_kernels._interruptions", lambda: 0)
    return clock


def test_timing_ends_when_the_median_is_certain(clock: Clock) -> None:
    options = replace(OPTIONS, repetitions=(3, 50), max_seconds=30)
    (steady,) = time_in_turns([clock.calls(1.0)], options)
    assert steady == pytest.approx([1e-3] * 6)
    (changing,) = time_in_turns([clock.calls(1.0, 2.0)], replace(options, round_seconds=1e-3))
    assert len(changing) == 50
    assert interval_width([1.0] * 5) == float("inf")
    assert interval_width([1.0] * 6) == 0.0
    assert interval_width([1.0, 2.0] * 10) == pytest.approx(0.5)


def test_timing_ends_when_its_time_is_over(clock: Clock) -> None:
    options = replace(OPTIONS, repetitions=(6, 50), max_seconds=0.5, confidence_width=0.0)
    assert [len(times) for times in time_in_turns([clock.calls(30.0), clock.calls(70.0)], options)] == [6, 6]


def test_what_is_clearly_slower_needs_no_exact_time(clock: Clock) -> None:
    options = replace(OPTIONS, repetitions=(6, 50), max_seconds=30, confidence_width=0.0)
    fast, slow = clock.calls(1.0), clock.calls(3.0)
    assert len(time_in_turns([fast, slow], options)[0]) == 6
    assert len(time_in_turns([slow, fast], options)[0]) == 50
    assert len(time_in_turns([fast, slow, fast], options)[0]) == 50  # one of them may be a champion


def test_caches_can_be_flushed() -> None:
    calls = []
    options = replace(OPTIONS, flush_cache=True, repetitions=(3, 3), warmup=2)
    (times,) = time_in_turns([lambda: calls.append(1)], options)
    assert 3 <= len(times) <= len(calls) - 2 < 200  # one call a round: a second one would find warm caches

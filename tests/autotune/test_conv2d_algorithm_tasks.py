"""The algorithms of a convolution are measured against each other, on the same filters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from relaxc.autotune.asked import Asked
from relaxc.autotune.build_kernel import build_kernel
from relaxc.autotune.conv2d_algorithm_tasks import conv2d_algorithm_tasks
from relaxc.autotune.measurement import ArgumentSpec, RunOptions, Status
from relaxc.autotune.run_kernels import Argument, run_kernels
from relaxc.autotune.standings import Standing
from relaxc.autotune.tuned_kernels import TunedKernels
from relaxc.passes.compute.winograd import Tiling, transform_filters, winograd_matrices
from relaxc.passes.lower_winograd_conv2d import Conv2dExtents
from relaxc.targets.cpu.conv2d_algorithms import algorithm_knobs, identify_choice
from relaxc.targets.registry import CpuTarget

EXTENTS = Conv2dExtents(batch=1, channels=32, out_blocks=2, height=14, width=14)


def test_all_algorithms_of_a_convolution_compute_the_same(native: CpuTarget) -> None:
    (task,) = conv2d_algorithm_tasks({EXTENTS: 3}, native, model_bytes=1 << 20)
    assert task.calls == 3
    assert task.space.find(task.default) is not None
    points = [task.space.knobs(point) for point in range(len(task.space))]
    kernels = [build_kernel(task.candidate(knobs, native)) for knobs in points]
    assert len({kernel.arguments for kernel in kernels}) == 2  # filters as they are, and transformed
    measured = run_kernels(kernels, RunOptions(1, repetitions=(1, 1), round_seconds=1e-6))
    assert [m.message for m in measured if not m.ok] == []


def test_other_filters_are_found_out(native: CpuTarget) -> None:
    (task,) = conv2d_algorithm_tasks({EXTENTS: 1}, native, model_bytes=0)
    direct, winograd = (
        build_kernel(task.candidate(knobs, native))
        for knobs in ({"tile": 0, "count": 0}, {"tile": 4, "count": 16})
    )
    unmarked = replace(winograd, arguments=tuple(replace(a, windows=()) for a in winograd.arguments))
    _, wrong = run_kernels([direct, unmarked], RunOptions(1, repetitions=(1, 1), round_seconds=1e-6))
    assert wrong.status is Status.WRONG_RESULT


def test_filters_are_transformed_as_a_compilation_does_it() -> None:
    spec = ArgumentSpec((2, 3, 3, 8, 16), "float32")
    G = winograd_matrices(4).filter
    transformed = ArgumentSpec((2, 36, 8, 16), "float32", windows=tuple(map(tuple, G.tolist())))
    filters, expected = (
        Argument.random(each, np.random.default_rng(0)).array for each in (spec, transformed)
    )
    np.testing.assert_allclose(transform_filters(filters, 4), expected, rtol=1e-5, atol=1e-6)


def test_symbolic_extents_leave_no_choice(native: CpuTarget) -> None:
    assert conv2d_algorithm_tasks({replace(EXTENTS, guessed=True): 1}, native, model_bytes=0) == []


def test_a_model_says_how_often_it_calls_a_convolution() -> None:
    asked: Asked[Conv2dExtents, Tiling] = Asked(lambda _extents: Tiling(4, 1))
    assert [asked(EXTENTS), asked(EXTENTS)] == [Tiling(4, 1)] * 2
    assert asked.calls == {EXTENTS: 2}


@pytest.mark.parametrize(
    ("knobs", "chosen"),
    [
        ({"tile": 4, "count": 4}, Tiling(4, 4)),
        ({"tile": 0, "count": 0}, None),
        ({"tile": 5, "count": 4}, Tiling(4, 1)),
        ({"tile": 4, "rows": 2, "columns": 2}, Tiling(4, 1)),
    ],
)
def test_a_compilation_takes_recorded_algorithms_and_refuses_what_is_none(
    knobs: dict[str, int], chosen: Tiling | None
) -> None:
    default = Tiling(4, 1)
    champion = Standing(algorithm_knobs(default), knobs, gain=1.2, seconds=1e-3)
    tuned = TunedKernels({identify_choice(EXTENTS): champion})
    assert tuned.algorithm(EXTENTS, default) == chosen
    assert len(tuned.notices) == (chosen == default)
    assert all("is no algorithm" in notice and "tune again" in notice for notice in tuned.notices)

"""Bands of rows: threads pad what they read, where they have equally much to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tvm
from tvm import te, tirx

from relaxc.passes.compute.conv2d import Conv2dGeometry, conv2d_nchwc
from relaxc.targets.cpu.schedule_kernels import schedule_kernel, schedule_of
from relaxc.targets.cpu.templates.conv2d import Conv2dConfig, Conv2dTemplate
from relaxc.targets.registry import resolve

TWO_CORES = replace(resolve("x86-64-v4").machine, cores=2)


def convolution(rows: int, blocks: int, window: int = 3) -> tirx.PrimFunc:
    """On a map of ``rows`` x 20 with ``blocks`` x 16 channels, which it keeps."""
    x = te.placeholder((1, blocks, rows, 20, 16), name="x")
    w = te.placeholder((blocks, window, window, blocks * 16, 16), name="w")
    pad = window // 2
    return te.create_prim_func([x, w, conv2d_nchwc(x, w, Conv2dGeometry((1, 1), (pad,) * 4, (1, 1), 1))])


def points(function: tirx.PrimFunc) -> list[Conv2dConfig]:
    template = Conv2dTemplate()
    workload = template.matches(schedule_of(function))
    assert workload is not None
    return list(template.space(workload, TWO_CORES))


def parallel_loops(function: tirx.PrimFunc) -> int:
    scheduled = schedule_kernel(function, TWO_CORES).function
    return str(tvm.IRModule({"f": scheduled}).script()).count("T.parallel(")


@pytest.mark.parametrize(
    ("rows", "blocks", "loops"),
    [
        (20, 4, 1),  # each thread pads its bands
        (20, 32, 2),  # both threads would read 9 MB of weights
        (7, 6, 2),  # seven rows for two threads
    ],
)
def test_the_default_pads_by_bands_where_that_is_worth_it(rows: int, blocks: int, loops: int) -> None:
    assert parallel_loops(convolution(rows, blocks)) == loops


def test_bands_are_equal() -> None:
    assert {point.bands for point in points(convolution(20, 2)) if point.height == 1} == {1, 2, 4, 10, 20}


def test_threads_pad_their_own_bands_where_they_can() -> None:
    cuts = {(point.bands, point.strips) for point in points(convolution(14, 2)) if point.height == 1}
    assert cuts == {(1, False), (2, True), (14, True)}  # seven bands are one too many for a thread


def test_whole_bands_for_each_thread_are_balanced() -> None:
    strips = {point.bands for point in points(convolution(20, 2)) if point.strips and point.height == 4}
    assert strips == set()  # five bands


def test_what_needs_no_padding_has_no_strips() -> None:
    assert not any(point.strips for point in points(convolution(20, 2, window=1)))

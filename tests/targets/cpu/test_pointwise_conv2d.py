"""Pointwise convolutions take the map as one row, so that tiles of any height fit it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax, te

from relaxc.passes.compute.conv2d import Conv2dGeometry, conv2d_nchwc
from relaxc.targets.cpu.schedule_kernels import schedule_kernel, schedule_of
from relaxc.targets.cpu.templates.conv2d import Conv2dTemplate, Conv2dWorkload
from relaxc.targets.registry import resolve
from tests.targets.cpu.test_conv2d_kernels import CONV2D, POINT, filters, relax_conv2d
from tests.targets.kernel_workloads import Workload, check, normal
from tests.targets.numpy_reference import Window, conv2d

TWO_CORES = replace(resolve("x86-64-v3").machine, cores=2)


def convolution(stride: int, pad: int, lanes: int = 8) -> tvm.tirx.PrimFunc:
    x = te.placeholder((1, 2, 7, 9, lanes), name="x")
    w = te.placeholder((2, 1, 1, 2 * lanes, lanes), name="w")
    geometry = Conv2dGeometry((stride, stride), (pad,) * 4, (1, 1), 1)
    return te.create_prim_func([x, w, conv2d_nchwc(x, w, geometry)])


def workload_of(function: tvm.tirx.PrimFunc) -> Conv2dWorkload:
    workload = Conv2dTemplate().matches(schedule_of(function))
    assert workload is not None
    return workload


def test_the_map_is_one_row() -> None:
    workload = workload_of(convolution(stride=1, pad=0))
    assert (workload.height, workload.width) == (1, 63)


@pytest.mark.parametrize(("stride", "pad", "lanes"), [(1, 1, 8), (2, 1, 8), (2, 0, 16)])
def test_rows_stay_where_the_window_leaves_out_or_adds_some(stride: int, pad: int, lanes: int) -> None:
    assert workload_of(convolution(stride, pad, lanes)).height != 1


def test_pixels_apart_are_gathered_into_one_row_of_narrow_vectors() -> None:
    workload = workload_of(convolution(stride=2, pad=0))
    assert (workload.height, workload.width) == (1, 4 * 5)
    assert workload.padded  # what the kernel writes before it reads it


def test_threads_share_the_tiles_of_the_row() -> None:
    scheduled = schedule_kernel(convolution(stride=1, pad=0), TWO_CORES).function
    (loop,) = (line for line in str(scheduled.script()).splitlines() if "T.parallel(" in line)
    tile = Conv2dTemplate().default(workload_of(convolution(1, 0)), TWO_CORES).tile
    assert f"T.parallel({2 // tile.vectors * -(-63 // tile.rows)})" in loop


def test_bands_cut_the_row_between_tiles() -> None:
    template, workload = Conv2dTemplate(), workload_of(convolution(stride=1, pad=0))
    points = list(template.space(workload, TWO_CORES))
    assert any(point.bands > 1 for point in points)
    for point in points:
        assert -(-63 // point.tile.rows) % point.bands == 0


def pointwise(H: int, W: int, channels: int, outputs: int, strides: tuple[int, int]) -> Workload:
    """With a bias, a residual map and a ReLU behind it."""
    generator = np.random.default_rng(H * W)
    down, right = strides
    x, residual = (
        normal(generator, 2, channels, H, W),
        normal(generator, 2, outputs, -(-H // down), -(-W // right)),
    )
    weight, bias = filters(generator, outputs, channels, POINT), normal(generator, 1, outputs, 1, 1)
    window = Window((1, 1), strides, (0, 0, 0, 0), (1, 1))

    def operator(data: relax.Expr, other: relax.Expr) -> relax.Expr:
        sums = relax.op.add(relax_conv2d(data, weight, window), relax.const(bias))
        return relax.op.nn.relu(relax.op.add(sums, other))

    expected = np.maximum(conv2d(x, weight, window) + bias + residual, 0)
    description = f"{channels} to {outputs} on {H} x {W}, strides {strides}"
    return Workload(description, operator, [x, residual], expected, CONV2D)


@pytest.mark.parametrize("target", ["native", "avx2"])
def test_results_are_right_where_tiles_go_over_the_ends_of_rows(
    target: str, request: pytest.FixtureRequest
) -> None:
    cases = [
        (7, 7, 16, 48),
        (5, 3, 24, 17),
        (1, 11, 8, 16),
        (13, 1, 20, 32),
        (1, 1, 64, 64),
        (14, 14, 72, 24),
    ]
    name = target if target == "native" else request.getfixturevalue(target)
    check([pointwise(*case, strides) for case in cases for strides in ((1, 1), (2, 2), (1, 3))], name)

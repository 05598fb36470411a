"""Convolutions with windows of 3 x 3 go by Winograd's method where they are told to, others never do."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.assign_layouts import assign_layouts
from relaxc.passes.compute.winograd import POINTS, Tiling, winograd_matrices
from relaxc.passes.lower_winograd_conv2d import (
    LIKELY_SIDE,
    Conv2dExtents,
    always_direct,
    lower_winograd_conv2d,
)
from tests.passes.module_summary import assert_same_results, normal, operators

BLOCK = 4
WEIGHT, POINT, GROUPED = normal(8, 6, 3, 3), normal(8, 6, 1, 1), normal(8, 3, 3, 3)


@I.ir_module
class Convolution:
    @R.function
    def main(x: R.Tensor((2, 6, 9, 14), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(WEIGHT), padding=(2, 0, 1, 1))
            r = (a,)
            R.output(r)
        return r


@I.ir_module
class SymbolicConvolution:
    @R.function
    def main(x: R.Tensor(("n", 6, "h", "w"), "float32")):
        with R.dataflow():
            a = R.nn.max_pool2d(x, pool_size=(2, 2), strides=(2, 2))
            b = R.nn.conv2d(a, R.const(WEIGHT), padding=(1, 1))
            r = (b,)
            R.output(r)
        return r


@I.ir_module
class OtherConvolutions:
    @R.function
    def main(x: R.Tensor((1, 6, 9, 14), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(WEIGHT), strides=(2, 1))
            b = R.nn.conv2d(x, R.const(WEIGHT), dilation=(1, 2))
            c = R.nn.conv2d(x, R.const(POINT))
            d = R.nn.conv2d(x, R.const(GROUPED), groups=2)
            r = (a, b, c, d)
            R.output(r)
        return r


def lowered(module: tvm.IRModule, tiling: Tiling) -> tvm.IRModule:
    return lower_winograd_conv2d(assign_layouts(module, BLOCK), lambda _extents: tiling)


@pytest.mark.parametrize("tile", list(POINTS))
def test_a_lowered_convolution_computes_the_same(tile: int) -> None:
    after = lowered(Convolution, Tiling(tile, 2))
    assert operators(after) == ["pack_nchwc", "winograd_conv2d_nchwc", "unpack_nchwc"]
    assert_same_results(after, Convolution, normal(2, 6, 9, 14))


def test_the_choice_sees_the_extents_of_the_output() -> None:
    seen = []

    def choose(extents: Conv2dExtents) -> None:
        seen.append(extents)

    lower_winograd_conv2d(assign_layouts(Convolution, BLOCK), choose)
    assert seen == [Conv2dExtents(batch=2, channels=6, out_blocks=2, height=10, width=13)]


def test_the_choice_sees_what_symbolic_extents_are_for_a_picture_of_a_likely_size() -> None:
    seen = []

    def choose(extents: Conv2dExtents) -> None:
        seen.append(extents)

    lower_winograd_conv2d(assign_layouts(SymbolicConvolution, BLOCK), choose)
    (extents,) = seen
    half = LIKELY_SIDE // 2
    assert extents == Conv2dExtents(1, 6, out_blocks=2, height=half, width=half, guessed=True)


def test_without_a_tiling_a_convolution_stays_direct() -> None:
    before = assign_layouts(Convolution, BLOCK)
    tvm.ir.assert_structural_equal(lower_winograd_conv2d(before, always_direct), before)


def test_strides_dilations_groups_and_other_windows_stay_direct() -> None:
    before = assign_layouts(OtherConvolutions, BLOCK)
    tvm.ir.assert_structural_equal(lowered(OtherConvolutions, Tiling(4, 1)), before)


@pytest.mark.parametrize("tile", list(POINTS))
def test_the_matrices_compute_a_correlation(tile: int) -> None:
    matrices = winograd_matrices(tile)
    d, g = np.random.default_rng(0).standard_normal(tile + 2), np.array([0.3, -1.0, 2.0])
    y = matrices.output @ ((matrices.filter @ g) * (matrices.input @ d))
    np.testing.assert_allclose(y, np.correlate(d, g, mode="valid"), rtol=1e-12, atol=1e-12)

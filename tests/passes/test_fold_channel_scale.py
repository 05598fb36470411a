"""Scales and shifts per channel go into the weights and the bias of the convolution before them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.fold_channel_scale import fold_channel_scale
from tests.passes.module_summary import assert_same_results, normal

Operation = Callable[..., object]

WEIGHT = normal(4, 3, 1, 1)
SCALE = np.array([1, 2, 0.5, -4], np.float32).reshape(1, 4, 1, 1)
SCALED_WEIGHT = WEIGHT * SCALE.reshape(4, 1, 1, 1)
BIAS = normal(1, 4, 1, 1, seed=1)
SHIFT = normal(1, 4, 1, 1, seed=2)
PICTURE = normal(1, 1, 8, 8)
BATCH = normal(5, 4, 1, 1)


def assert_becomes(before: tvm.IRModule, after: tvm.IRModule) -> None:
    tvm.ir.assert_structural_equal(fold_channel_scale(before), after)


def assert_unchanged(module: tvm.IRModule) -> None:
    assert_becomes(module, module)


@I.ir_module
class Convolution:
    @R.function
    def main(x: R.Tensor(("n", 3, "h", 8), "float32")):
        with R.dataflow():
            c = R.nn.conv2d(x, R.const(SCALED_WEIGHT))
            r = (c,)
            R.output(r)
        return r


def test_a_scale_goes_into_the_weights() -> None:
    @I.ir_module
    class Scaled:
        @R.function
        def main(x: R.Tensor(("n", 3, "h", 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                s = R.multiply(c, R.const(SCALE))
                r = (s,)
                R.output(r)
            return r

    assert_becomes(Scaled, Convolution)


def test_a_division_is_a_scale() -> None:
    inverse = 1 / SCALE

    @I.ir_module
    class Divided:
        @R.function
        def main(x: R.Tensor(("n", 3, "h", 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                s = R.divide(c, R.const(inverse))
                r = (s,)
                R.output(r)
            return r

    assert_becomes(Divided, Convolution)


def test_a_scalar_scales_every_channel() -> None:
    doubled = WEIGHT * 2

    @I.ir_module
    class Scaled:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                s = R.multiply(c, R.const(2.0, "float32"))
                r = (s,)
                R.output(r)
            return r

    @I.ir_module
    class Folded:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(doubled))
                r = (c,)
                R.output(r)
            return r

    assert_becomes(Scaled, Folded)


def test_a_scale_behind_a_bias_scales_the_bias_too() -> None:
    scaled_bias = BIAS * SCALE

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("n", 3, "h", 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                b = R.add(c, R.const(BIAS))
                s = R.multiply(b, R.const(SCALE))
                r = (s,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor(("n", 3, "h", 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(SCALED_WEIGHT))
                b = R.add(c, R.const(scaled_bias))
                r = (b,)
                R.output(r)
            return r

    assert_becomes(Before, After)


def test_shifts_are_added_up() -> None:
    both = BIAS - SHIFT

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                b = R.add(c, R.const(BIAS))
                s = R.subtract(b, R.const(SHIFT))
                r = (s,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                b = R.add(c, R.const(both))
                r = (b,)
                R.output(r)
            return r

    assert_becomes(Before, After)


def test_a_batch_normalisation_behind_a_bias_leaves_one_addition() -> None:
    folded = BIAS * SCALE + SHIFT

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                b = R.add(c, R.const(BIAS))
                s = R.multiply(b, R.const(SCALE))
                t = R.add(s, R.const(SHIFT))
                r = (t,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(SCALED_WEIGHT))
                t = R.add(c, R.const(folded))
                r = (t,)
                R.output(r)
            return r

    assert_becomes(Before, After)
    assert_same_results(fold_channel_scale(Before), Before, normal(1, 3, 8, 8))


def test_a_depthwise_convolution_is_scaled_by_output_channel() -> None:
    weight = normal(4, 1, 3, 3)
    scaled = weight * SCALE.reshape(4, 1, 1, 1)

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 4, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(weight), padding=(1, 1), groups=4)
                s = R.multiply(c, R.const(SCALE))
                r = (s,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 4, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(scaled), padding=(1, 1), groups=4)
                r = (c,)
                R.output(r)
            return r

    assert_becomes(Before, After)


@pytest.mark.parametrize(
    "results",
    [
        pytest.param(lambda c, b, s: (s, R.nn.relu(b)), id="the_sum_has_another_reader"),
        pytest.param(lambda c, b, s: (s, b), id="the_sum_is_an_output"),
        pytest.param(lambda c, b, s: (s, R.nn.relu(c)), id="the_convolution_has_another_reader"),
        pytest.param(lambda c, b, s: (s, c), id="the_convolution_is_an_output"),
    ],
)
def test_a_biased_convolution_with_another_reader_stays(results: Operation) -> None:
    @I.ir_module
    class Readers:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                b = R.add(c, R.const(BIAS))
                s = R.multiply(b, R.const(SCALE))
                r = results(c, b, s)
                R.output(r)
            return r

    assert_unchanged(Readers)


@pytest.mark.parametrize("reader", [R.nn.relu, lambda c: c], ids=["an_operator", "the_result"])
def test_a_convolution_with_another_reader_stays(reader: Operation) -> None:
    @I.ir_module
    class Readers:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                s = R.multiply(c, R.const(SCALE))
                r = (s, reader(c))
                R.output(r)
            return r

    assert_unchanged(Readers)


def test_weights_known_at_run_time_only_stay() -> None:
    @I.ir_module
    class Variable:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), w: R.Tensor((4, 3, 1, 1), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, w)
                s = R.multiply(c, R.const(SCALE))
                r = (s,)
                R.output(r)
            return r

    assert_unchanged(Variable)


def test_a_scale_known_at_run_time_only_stays() -> None:
    @I.ir_module
    class Variable:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), s: R.Tensor((1, 4, 1, 1), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                y = R.multiply(c, s)
                r = (y,)
                R.output(r)
            return r

    assert_unchanged(Variable)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda c: R.multiply(c, R.const(PICTURE)), id="it_varies_over_the_picture"),
        pytest.param(lambda c: R.multiply(c, R.const(BATCH)), id="it_widens_the_batch"),
        pytest.param(lambda c: R.add(c, R.const(BIAS)), id="a_lone_shift_is_the_bias"),
        pytest.param(lambda c: R.divide(R.const(SCALE), c), id="something_divided_by_a_convolution"),
    ],
)
def test_what_is_no_scale_of_channels_stays(operation: Operation) -> None:
    @I.ir_module
    class Unscaled:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(WEIGHT))
                y = operation(c)
                r = (y,)
                R.output(r)
            return r

    assert_unchanged(Unscaled)


def test_branches_are_rewritten_too() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), p: R.Tensor((), "bool")):
            if p:
                c = R.nn.conv2d(x, R.const(WEIGHT))
                y = R.multiply(c, R.const(SCALE))
            else:
                d = R.nn.conv2d(x, R.const(WEIGHT))
                y = R.nn.relu(d)
            return (y,)

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), p: R.Tensor((), "bool")):
            if p:
                y = R.nn.conv2d(x, R.const(SCALED_WEIGHT))
            else:
                d = R.nn.conv2d(x, R.const(WEIGHT))
                y = R.nn.relu(d)
            return (y,)

    for condition in (True, False):
        inputs = normal(1, 3, 8, 8), np.array(condition)
        assert_same_results(fold_channel_scale(Before), Before, *inputs)
    assert_becomes(Before, After)


def test_a_convolution_read_in_a_branch_has_a_reader_there() -> None:
    @I.ir_module
    class ReadInside:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), p: R.Tensor((), "bool")):
            c = R.nn.conv2d(x, R.const(WEIGHT))
            if p:
                y = R.nn.relu(c)
            else:
                y = R.multiply(c, R.const(SCALE))
            return (y,)

    for condition in (True, False):
        inputs = normal(1, 3, 8, 8), np.array(condition)
        assert_same_results(fold_channel_scale(ReadInside), ReadInside, *inputs)

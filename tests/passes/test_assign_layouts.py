"""Regions around convolutions work on blocks of channels; everything else keeps NCHW."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.assign_layouts import assign_layouts
from tests.passes.module_summary import assert_same_results, normal, operators

BLOCK = 4
WIDE = normal(12, 8, 3, 3)
BACK = normal(8, 12, 1, 1, seed=1)
ODD = normal(6, 8, 3, 3, seed=2)
BIAS = normal(1, 12, 1, 1, seed=3)


def laid_out(module: tvm.IRModule, *inputs: np.ndarray) -> list[str]:
    """What the module calls after the pass, which must not have changed its results."""
    after = assign_layouts(module, BLOCK)
    assert_same_results(after, module, *inputs)
    return operators(after)


def assert_unchanged(module: tvm.IRModule) -> None:
    tvm.ir.assert_structural_equal(assign_layouts(module, BLOCK), module)


def test_a_region_is_packed_at_its_beginning_and_unpacked_at_its_end() -> None:
    @I.ir_module
    class Region:
        @R.function
        def main(x: R.Tensor(("n", 8, "h", 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE), padding=(1, 1))
                b = R.nn.relu(a)
                c = R.nn.conv2d(b, R.const(BACK))
                r = (c,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "nn.relu", "conv2d_nchwc1", "unpack_nchwc"]
    assert laid_out(Region, normal(2, 8, 7, 9)) == expected


def test_maps_of_few_channels_are_read_as_they_are() -> None:
    weight = normal(12, 3, 3, 3)

    @I.ir_module
    class Picture:
        @R.function
        def main(x: R.Tensor((1, 3, "h", "w"), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(weight), strides=(2, 2), padding=(1, 0))
                r = (c,)
                R.output(r)
            return r

    assert laid_out(Picture, normal(1, 3, 9, 11)) == ["conv2d_nchwc", "unpack_nchwc"]


@pytest.mark.parametrize(("depth", "kernel"), [(2, "conv2d_window_pairs"), (32, "conv2d_window_tiles")])
def test_narrow_maps_of_few_channels_have_pairs_of_columns(depth: int, kernel: str) -> None:
    weight = normal(12, 3, 3, 3).astype(ml_dtypes.bfloat16)

    @I.ir_module
    class Picture:
        @R.function
        def main(x: R.Tensor((1, 3, 9, 11), "bfloat16")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(weight), padding=1, out_dtype="float32")
                r = (c,)
                R.output(r)
            return r

    assert operators(assign_layouts(Picture, BLOCK, depth)) == [kernel, "unpack_nchwc"]


def test_the_last_block_may_have_idle_lanes() -> None:
    @I.ir_module
    class Odd:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(ODD))
                r = (c,)
                R.output(r)
            return r

    after = assign_layouts(Odd, BLOCK)
    bindings = after["main"].body.blocks[0].bindings
    assert [int(extent) for extent in bindings[1].value.ty.shape] == [1, 2, 7, 7, 4]
    assert_same_results(after, Odd, normal(1, 8, 9, 9))


def test_a_value_is_packed_once_for_all_its_readers() -> None:
    @I.ir_module
    class TwoConvolutions:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                b = R.nn.conv2d(x, R.const(WIDE))
                c = R.add(a, b)
                r = (c,)
                R.output(r)
            return r

    assert laid_out(TwoConvolutions, normal(1, 8, 9, 9)).count("pack_nchwc") == 1


def test_a_value_read_by_blocked_and_plain_consumers_exists_in_both_layouts() -> None:
    @I.ir_module
    class BothReaders:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                b = R.nn.conv2d(a, R.const(BACK))
                c = R.permute_dims(a, axes=[0, 2, 3, 1])
                d = R.reshape(a, (1, 12, 49))
                r = (b, c, d, a)
                R.output(r)
            return r

    found = laid_out(BothReaders, normal(1, 8, 9, 9))
    assert found.count("unpack_nchwc") == 1  # of a, for all that read it in NCHW
    assert found.count("unpack_nchwc1") == 1  # of b
    assert found.count("pack_nchwc") == 1


def test_outputs_are_in_nchw() -> None:
    @I.ir_module
    class Output:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                R.output(a)
            return a

    after = assign_layouts(Output, BLOCK)
    assert operators(after) == ["pack_nchwc", "conv2d_nchwc", "unpack_nchwc"]
    tvm.ir.assert_structural_equal(after["main"].ret_ty, relax.TensorType((1, 12, 7, 7), "float32"))


def test_a_variable_outside_of_dataflow_stays_readable() -> None:
    @I.ir_module
    class ReadTwice:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                b = R.nn.relu(a)
                R.output(a, b)
            c = R.nn.softmax(a, axis=1)
            return (b, c)

    found = laid_out(ReadTwice, normal(1, 8, 9, 9))
    assert "nn.softmax" in found


@pytest.mark.parametrize(
    "value",
    [
        BIAS,
        BIAS[0],
        np.float32(3),
        np.full((1, 1, 1, 1), 2, np.float32),
        normal(1, 1, 7, 7),
        normal(7),
        normal(1, 12, 7, 7),
        normal(2, 12, 1, 1),
    ],
    ids=lambda value: str(value.shape),
)
@pytest.mark.parametrize("operator", [relax.op.add, relax.op.divide, relax.op.maximum, relax.op.power])
def test_constants_follow_the_layout(value: np.ndarray, operator: Any) -> None:
    @I.ir_module
    class Constant:
        @R.function
        def main(x: R.Tensor((2, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                e = R.abs(a)
                b = operator(e, R.const(value))
                c = R.nn.conv2d(b, R.const(BACK))
                r = (c,)
                R.output(r)
            return r

    found = [name.rstrip("12") for name in operators(assign_layouts(Constant, BLOCK))]
    assert [found.count(name) for name in ("pack_nchwc", "unpack_nchwc")] == [1, 1]


def test_constants_that_widen_the_channels_end_a_region() -> None:
    @I.ir_module
    class Widened:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32"), y: R.Tensor((1, 12, 1, 1), "float32")):
            with R.dataflow():
                w = R.nn.conv2d(x, R.const(WIDE[:1]))
                a = R.add(w, R.const(BIAS))
                b = R.multiply(w, y)
                r = (a, b)
                R.output(r)
            return r

    laid_out(Widened, normal(1, 8, 9, 9), normal(1, 12, 1, 1, seed=9))


def test_a_plain_map_beside_a_blocked_one_is_packed() -> None:
    @I.ir_module
    class Residual:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32"), y: R.Tensor((1, 12, 7, 7), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                b = R.subtract(y, a)
                r = (b,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "pack_nchwc1", "subtract", "unpack_nchwc"]
    assert laid_out(Residual, normal(1, 8, 9, 9), normal(1, 12, 7, 7)) == expected


def test_a_map_of_one_channel_broadcasts_over_all_blocks() -> None:
    @I.ir_module
    class Attention:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32"), y: R.Tensor((1, 1, 7, 7), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                b = R.multiply(a, y)
                r = (b,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "expand_dims", "multiply", "unpack_nchwc"]
    assert laid_out(Attention, normal(1, 8, 9, 9), normal(1, 1, 7, 7)) == expected


def test_a_gate_from_the_mean_stays_blocked() -> None:
    @I.ir_module
    class Gate:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(ODD))
                m = R.mean(a, axis=[2, 3], keepdims=True)
                s = R.sigmoid(m)
                b = R.multiply(a, s)
                r = (b,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "mean", "sigmoid", "multiply", "unpack_nchwc"]
    assert laid_out(Gate, normal(1, 8, 9, 9)) == expected


def test_reductions_that_drop_axes_read_nchw() -> None:
    @I.ir_module
    class Dropped:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(ODD))
                m = R.mean(a, axis=[2, 3], keepdims=False)
                c = R.mean(a, axis=[1], keepdims=True)
                r = (m, c)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "unpack_nchwc", "mean", "mean"]
    assert laid_out(Dropped, normal(1, 8, 9, 9)) == expected


def test_pooling_stays_blocked() -> None:
    @I.ir_module
    class Pools:
        @R.function
        def main(x: R.Tensor((1, 8, 12, 12), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(ODD))
                b = R.nn.max_pool2d(a, pool_size=(3, 3), strides=(2, 1), padding=(1, 0, 1, 2))
                c = R.nn.avg_pool2d(b, pool_size=(2, 2), padding=(1, 1), count_include_pad=True)
                d = R.nn.adaptive_avg_pool2d(c, output_size=(3, 2))
                r = (d,)
                R.output(r)
            return r

    expected = [
        *("pack_nchwc", "conv2d_nchwc", "nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d"),
        "unpack_nchwc",
    ]
    assert laid_out(Pools, normal(1, 8, 12, 12)) == expected


def test_whole_blocks_are_concatenated_and_split_as_they_are() -> None:
    @I.ir_module
    class Branches:
        @R.function
        def main(x: R.Tensor((1, 8, 7, 7), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE), padding=(1, 1))
                s = R.split(a, indices_or_sections=[4], axis=1)
                p = s[0]
                q = s[1]
                b = R.concat((q, x, p), axis=1)
                r = (b,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "strided_slice", "strided_slice", "concat", "unpack_nchwc"]
    assert laid_out(Branches, normal(1, 8, 7, 7)) == expected


def test_parts_that_end_within_blocks_are_concatenated_in_blocks_if_their_ends_cut_vectors() -> None:
    @I.ir_module
    class Branches:
        @R.function
        def main(x: R.Tensor((1, 8, 7, 7), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE), padding=(1, 1))
                b = R.concat((a, x), axis=1)
                r = (b,)
                R.output(r)
            return r

    after = assign_layouts(Branches, 8)
    assert operators(after) == ["pack_nchwc", "conv2d_nchwc", "concat_nchwc", "unpack_nchwc"]
    assert_same_results(after, Branches, normal(1, 8, 7, 7))


@pytest.mark.parametrize("axis", [1, 2])
def test_parts_of_blocks_are_concatenated_and_split_in_nchw(axis: int) -> None:
    @I.ir_module
    class Branches:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(ODD))
                s = R.split(a, indices_or_sections=[3], axis=axis)
                b = R.concat((s[1], s[0]), axis=axis)
                r = (b, a)
                R.output(r)
            return r

    assert laid_out(Branches, normal(1, 8, 9, 9))[:3] == ["pack_nchwc", "conv2d_nchwc", "unpack_nchwc"]


def test_depthwise_convolutions_are_blocked_for_any_number_of_channels() -> None:
    weight = normal(6, 1, 3, 3)

    @I.ir_module
    class Depthwise:
        @R.function
        def main(x: R.Tensor((1, 6, 9, 9), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(weight), strides=(2, 1), dilation=(1, 2), groups=6)
                r = (c,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "depthwise_conv2d_nchwc", "unpack_nchwc"]
    assert laid_out(Depthwise, normal(1, 6, 9, 9)) == expected


@pytest.mark.parametrize(
    ("groups", "outputs", "blocked"),
    [
        pytest.param(2, 8, True, id="each fills a block"),
        pytest.param(4, 8, True, id="two fill one"),
        pytest.param(6, 12, True, id="two fill one, of an odd number of blocks"),
        pytest.param(2, 6, True, id="only all together, one block and a half"),
        pytest.param(11, 33, False, id="too many for being multiplied as one"),
    ],
)
def test_groups_are_merged_until_they_fill_blocks(groups: int, outputs: int, blocked: bool) -> None:
    weight, channels = normal(outputs, 3, 3, 3), 3 * groups

    @I.ir_module
    class Grouped:
        @R.function
        def main(x: R.Tensor((1, channels, 9, 9), "float32")):
            with R.dataflow():
                c = R.nn.conv2d(x, R.const(weight), groups=groups)
                r = (c,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "unpack_nchwc"] if blocked else ["nn.conv2d"]
    assert laid_out(Grouped, normal(1, channels, 9, 9)) == expected


def test_weights_known_at_run_time_only_keep_nchw() -> None:
    @I.ir_module
    class Variable:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32"), w: R.Tensor((12, 8, 3, 3), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, w)
                b = R.nn.relu(a)
                r = (b,)
                R.output(r)
            return r

    assert_unchanged(Variable)


def test_nothing_is_blocked_without_a_convolution() -> None:
    @I.ir_module
    class Elementwise:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                b = R.nn.max_pool2d(a, pool_size=(2, 2))
                r = (b,)
                R.output(r)
            return r

    assert_unchanged(Elementwise)


def test_each_block_of_bindings_packs_for_itself() -> None:
    @I.ir_module
    class TwoBlocks:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WIDE))
                R.output(a)
            with R.dataflow():
                b = R.nn.relu(a)
                c = R.nn.conv2d(x, R.const(WIDE))
                d = R.add(b, c)
                R.output(d)
            e = R.nn.relu(a)
            return (d, e)

    after = assign_layouts(TwoBlocks, BLOCK)
    relax.analysis.well_formed(after)
    laid_out(TwoBlocks, normal(1, 8, 9, 9))


@pytest.mark.parametrize("condition", [True, False])
def test_branches_pack_for_themselves(condition: bool) -> None:
    @I.ir_module
    class Branches:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32"), p: R.Tensor((), "bool")):
            if p:
                y = R.nn.conv2d(x, R.const(WIDE))
            else:
                z = R.nn.conv2d(x, R.const(WIDE))
                y = R.nn.relu(z)
            w = R.nn.conv2d(x, R.const(WIDE))
            return (y, w)

    relax.analysis.well_formed(assign_layouts(Branches, BLOCK))
    laid_out(Branches, normal(1, 8, 9, 9), np.array(condition))


@pytest.mark.parametrize("condition", [True, False])
def test_branches_read_nchw(condition: bool) -> None:
    @I.ir_module
    class Branches:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "float32"), p: R.Tensor((), "bool")):
            a = R.nn.conv2d(x, R.const(WIDE))
            if p:
                y = R.nn.relu(a)
            else:
                z = R.nn.conv2d(a, R.const(BACK))
                y = R.nn.conv2d(z, R.const(WIDE), padding=(1, 1))
            w = R.nn.relu(y)
            return (w, a)

    laid_out(Branches, normal(1, 8, 9, 9), np.array(condition))


def test_sums_of_narrow_integers_stay_wide() -> None:
    weight = np.full((12, 8, 3, 3), 100, np.int8)

    @I.ir_module
    class Quantized:
        @R.function
        def main(x: R.Tensor((1, 8, 9, 9), "int8")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(weight), out_dtype="int32")
                r = (a,)
                R.output(r)
            return r

    laid_out(Quantized, np.full((1, 8, 9, 9), 100, np.int8))


def test_images_are_cut_and_joined_in_blocks() -> None:
    @I.ir_module
    class Images:
        @R.function
        def main(x: R.Tensor((3, 8, 7, 9), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(ODD))
                b = R.strided_slice(a, axes=[0], begin=[2], end=[3])
                c = R.concat((b, a), axis=0)
                d = R.mean(c, axis=[2, 3], keepdims=True)
                r = (d,)
                R.output(r)
            return r

    expected = ["pack_nchwc", "conv2d_nchwc", "strided_slice", "concat", "mean", "unpack_nchwc"]
    assert laid_out(Images, normal(3, 8, 7, 9)) == expected

"""Chains around depthwise convolutions become one kernel where that is asked for and nobody else reads on."""

from __future__ import annotations

import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.fuse_separable_conv2d import ChainExtents, ChooseChain, never_fused
from relaxc.passes.pipeline import graph_passes
from tests.passes.module_summary import assert_same_results, normal, operators

EXPAND, DEPTHWISE, PROJECT = normal(32, 16, 1, 1), normal(32, 1, 3, 3, seed=1), normal(16, 32, 1, 1, seed=2)
NARROW, COLUMN = normal(16, 1, 3, 3, seed=3), normal(16, 32, 3, 3, seed=4)


@I.ir_module
class InvertedResidual:
    @R.function
    def main(x: R.Tensor((2, 16, 9, 12), "float32")):
        with R.dataflow():
            a = R.nn.relu(R.nn.conv2d(x, R.const(EXPAND)))
            b = R.nn.relu(R.nn.conv2d(a, R.const(DEPTHWISE), padding=(1, 1), groups=32))
            c = R.add(R.nn.conv2d(b, R.const(PROJECT)), x)
            r = (c,)
            R.output(r)
        return r


@I.ir_module
class WideMapReadTwice:
    @R.function
    def main(x: R.Tensor((2, 16, 9, 12), "float32")):
        with R.dataflow():
            a = R.nn.relu(R.nn.conv2d(x, R.const(EXPAND)))
            b = R.nn.relu(R.nn.conv2d(a, R.const(DEPTHWISE), padding=(1, 1), groups=32))
            c = R.nn.conv2d(b, R.const(PROJECT))
            d = R.nn.conv2d(b, R.const(DEPTHWISE), strides=(2, 2), groups=32)
            r = (c, d)
            R.output(r)
        return r


@I.ir_module
class TwoInARow:
    @R.function
    def main(x: R.Tensor((1, 32, 9, 12), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(DEPTHWISE), padding=(1, 1), groups=32)
            b = R.nn.relu(R.nn.conv2d(a, R.const(PROJECT)))
            c = R.nn.conv2d(b, R.const(NARROW), strides=(2, 2), groups=16)
            d = R.nn.conv2d(c, R.const(EXPAND))
            r = (d,)
            R.output(r)
        return r


@I.ir_module
class WholeHeight:
    @R.function
    def main(x: R.Tensor((1, 32, 3, 12), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(DEPTHWISE), padding=(1, 1), groups=32)
            b = R.nn.conv2d(a, R.const(COLUMN), padding=(0, 1))
            r = (b,)
            R.output(r)
        return r


@I.ir_module
class NoImages:
    @R.function
    def main(x: R.Tensor((0, 32, 9, 12), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(DEPTHWISE), groups=32)
            b = R.nn.conv2d(a, R.const(PROJECT))
            r = (b,)
            R.output(r)
        return r


@I.ir_module
class Symbolic:
    @R.function
    def main(x: R.Tensor((1, 16, "height", 12), "float32")):
        with R.dataflow():
            a = R.nn.relu(R.nn.conv2d(x, R.const(EXPAND)))
            b = R.nn.relu(R.nn.conv2d(a, R.const(DEPTHWISE), padding=(1, 1), groups=32))
            c = R.nn.conv2d(b, R.const(PROJECT))
            r = (c,)
            R.output(r)
        return r


def always(_extents: ChainExtents) -> bool:
    return True


def without_first_convolution(extents: ChainExtents) -> bool:
    return not extents.narrow


def lowered(module: tvm.IRModule, choose: ChooseChain) -> tvm.IRModule:
    for step in graph_passes(16, choose_chain=choose):
        module = step.run(module)
    return module


def convolutions(module: tvm.IRModule) -> list[str]:
    """The kinds of the kernels that convolve, in order."""
    kinds = ("separable", "depthwise", "conv2d")
    return [next(kind for kind in kinds if kind in name) for name in operators(module) if "conv2d" in name]


def test_an_inverted_residual_becomes_one_kernel_that_computes_the_same() -> None:
    fused = lowered(InvertedResidual, always)
    assert convolutions(fused) == ["separable"]
    assert_same_results(fused, lowered(InvertedResidual, never_fused), normal(2, 16, 9, 12, seed=4))


def test_the_choice_is_asked_with_the_extents_of_the_chain() -> None:
    asked: list[ChainExtents] = []

    def choose(extents: ChainExtents) -> bool:
        asked.append(extents)
        return False

    assert convolutions(lowered(InvertedResidual, choose)) == ["conv2d", "depthwise", "conv2d"]
    whole = ChainExtents(2, 16, 32, 16, 9, 12, 9, 12, 3)
    end = ChainExtents(2, 0, 32, 16, 9, 12, 9, 12, 3)
    assert asked == [whole, end]


def test_the_end_of_a_chain_may_be_one_kernel_by_itself() -> None:
    fused = lowered(InvertedResidual, without_first_convolution)
    assert convolutions(fused) == ["conv2d", "separable"]
    assert_same_results(fused, lowered(InvertedResidual, never_fused), normal(2, 16, 9, 12, seed=4))


def test_a_map_with_another_reader_is_written_as_a_whole() -> None:
    assert "separable" not in convolutions(lowered(WideMapReadTwice, always))


def test_a_convolution_belongs_to_one_chain_only() -> None:
    fused = lowered(TwoInARow, always)
    assert convolutions(fused) == ["separable", "separable"]
    assert_same_results(fused, lowered(TwoInARow, never_fused), normal(1, 32, 9, 12, seed=4))


def test_symbolic_extents_keep_kernels_apart() -> None:
    assert convolutions(lowered(Symbolic, always)) == ["conv2d", "depthwise", "conv2d"]


def test_a_convolution_over_the_whole_height_is_not_pointwise() -> None:
    assert convolutions(lowered(WholeHeight, always)) == ["depthwise", "conv2d"]


def test_maps_without_elements_keep_kernels_apart() -> None:
    assert convolutions(lowered(NoImages, always)) == ["depthwise", "conv2d"]

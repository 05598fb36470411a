"""A batch is computed by chains of operators on groups of images, where that is possible and asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relaxc.passes.batch_profile import Run
from relaxc.passes.split_batch import all_at_once, split_batch
from tests.passes.module_summary import assert_same_results, normal, operators

WEIGHT, POINT, OTHER = normal(6, 6, 3, 3), normal(6, 6, 1, 1, seed=1), normal(4, 6, 1, 1, seed=2)


@I.ir_module
class Residual:
    @R.function
    def main(x: R.Tensor((4, 6, 9, 7), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(WEIGHT), padding=(1, 1))
            b = R.nn.relu(a)
            c = R.nn.conv2d(b, R.const(POINT))
            d = R.add(c, b)
            r = (d,)
            R.output(r)
        return r


@I.ir_module
class ResidualInPairs:
    @R.function
    def main(x: R.Tensor((4, 6, 9, 7), "float32")):
        with R.dataflow():
            x0 = R.strided_slice(x, axes=[0], begin=[0], end=[2])
            a0 = R.nn.conv2d(x0, R.const(WEIGHT), padding=(1, 1))
            b0 = R.nn.relu(a0)
            c0 = R.nn.conv2d(b0, R.const(POINT))
            d0 = R.add(c0, b0)
            x1 = R.strided_slice(x, axes=[0], begin=[2], end=[4])
            a1 = R.nn.conv2d(x1, R.const(WEIGHT), padding=(1, 1))
            b1 = R.nn.relu(a1)
            c1 = R.nn.conv2d(b1, R.const(POINT))
            d1 = R.add(c1, b1)
            d = R.concat((d0, d1), axis=0)
            r = (d,)
            R.output(r)
        return r


@I.ir_module
class ResidualHalfWhole:
    @R.function
    def main(x: R.Tensor((4, 6, 9, 7), "float32")):
        with R.dataflow():
            x0 = R.strided_slice(x, axes=[0], begin=[0], end=[2])
            a0 = R.nn.conv2d(x0, R.const(WEIGHT), padding=(1, 1))
            b0 = R.nn.relu(a0)
            x1 = R.strided_slice(x, axes=[0], begin=[2], end=[4])
            a1 = R.nn.conv2d(x1, R.const(WEIGHT), padding=(1, 1))
            b1 = R.nn.relu(a1)
            b = R.concat((b0, b1), axis=0)
            c = R.nn.conv2d(b, R.const(POINT))
            d = R.add(c, b)
            r = (d,)
            R.output(r)
        return r


@I.ir_module
class ImagesMixedBetween:
    """Centred by the mean of all images; one result leaves early, and one needs no image at all."""

    @R.function
    def main(x: R.Tensor((4, 6, 9, 7), "float32"), s: R.Tensor((1, 6, 1, 1), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(WEIGHT))
            m = R.mean(a, axis=[0, 2, 3], keepdims=True)
            b = R.subtract(a, m)
            t = R.exp(s)
            c = R.multiply(b, t)
            e = R.nn.conv2d(a, R.const(OTHER))
            p = R.split(a, indices_or_sections=3, axis=1)
            p0 = p[0]
            p2 = p[2]
            f = R.concat((p2, e, p0), axis=1)
            r = (c, f, a)
            R.output(r)
        return r


def in_groups_of(images: int, module: tvm.IRModule) -> tvm.IRModule:
    return split_batch(module, lambda run: [images] * len(run.steps))


def assert_unchanged(module: tvm.IRModule) -> None:
    tvm.ir.assert_structural_equal(in_groups_of(1, module), module)


def test_every_group_of_images_has_a_chain() -> None:
    tvm.ir.assert_structural_equal(in_groups_of(2, Residual), ResidualInPairs)
    assert_same_results(ResidualInPairs, Residual, normal(4, 6, 9, 7))


def test_only_the_steps_that_are_asked_for_are_split() -> None:
    after = split_batch(Residual, lambda _run: [2, 2, 4, 4])
    tvm.ir.assert_structural_equal(after, ResidualHalfWhole)
    assert_same_results(after, Residual, normal(4, 6, 9, 7))


@pytest.mark.parametrize("groups", [[1, 1, 2, 2], [4, 1, 1, 4], [1, 4, 2, 1], [2, 1, 4, 4]])
def test_neighbours_may_have_groups_of_other_sizes(groups: Sequence[int]) -> None:
    assert_same_results(split_batch(Residual, lambda _run: groups), Residual, normal(4, 6, 9, 7))


def test_a_batch_that_is_left_whole_leaves_the_module_as_it_was() -> None:
    for module in (Residual, ImagesMixedBetween):
        tvm.ir.assert_structural_equal(split_batch(module, all_at_once), module)


@pytest.mark.parametrize("images", [1, 2])
def test_what_mixes_images_gets_whole_batches(images: int) -> None:
    after = in_groups_of(images, ImagesMixedBetween)
    assert operators(after).count("mean") == 1
    assert operators(after).count("nn.conv2d") == 2 * 4 // images
    assert operators(after).count("exp") == 1
    assert_same_results(after, ImagesMixedBetween, normal(4, 6, 9, 7), normal(1, 6, 1, 1))


def test_runs_are_told_with_their_steps() -> None:
    runs: list[Run] = []

    def group(run: Run) -> Sequence[int]:
        runs.append(run)
        return all_at_once(run)

    split_batch(ImagesMixedBetween, group)
    assert [(run.batch, len(run.steps)) for run in runs] == [(4, 6), (4, 2)]


def test_single_images_and_symbolic_batches_stay() -> None:
    @I.ir_module
    class Single:
        @R.function
        def main(x: R.Tensor((1, 6, 9, 7), "float32")):
            with R.dataflow():
                a = R.nn.relu(R.nn.conv2d(x, R.const(WEIGHT)))
                R.output(a)
            return a

    @I.ir_module
    class Symbolic:
        @R.function
        def main(x: R.Tensor(("n", 6, 9, 7), "float32"), y: R.Tensor((4, 6, "h", 7), "float32")):
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(WEIGHT))
                b = R.nn.conv2d(y, R.const(WEIGHT))
                r = (a, b)
                R.output(r)
            return r

    assert_unchanged(Single)
    assert_unchanged(Symbolic)


def test_what_all_images_share_is_joined_first_although_it_has_as_many_rows() -> None:
    @I.ir_module
    class Shared:
        @R.function
        def main(x: R.Tensor((4, 5, 4), "float32")):
            with R.dataflow():
                a = R.exp(x)
                s = R.sum(a, axis=[1])  # [4, 4]: an image a row
                b = R.add(a, R.const(1.0))
                c = R.matmul(b, s)  # all of it for every image
                r = (c,)
                R.output(r)
            return r

    after = in_groups_of(1, Shared)
    assert operators(after).count("concat") == 3  # of b, s and c
    assert_same_results(after, Shared, normal(4, 5, 4))


def test_vectors_of_numbers_are_no_images() -> None:
    @I.ir_module
    class Rows:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                a = R.exp(x)
                R.output(a)
            return a

    assert_unchanged(Rows)


def test_blocks_that_find_extents_keep_their_order() -> None:
    @I.ir_module
    class Found:
        @R.function
        def main(x: R.Tensor((2, 6, 9, 7), "float32"), y: R.Tensor(dtype="float32", ndim=1)):
            n = T.int64()
            with R.dataflow():
                a = R.nn.conv2d(x, R.const(POINT))
                b = R.match_cast(y, R.Tensor((n,), "float32"))
                c = R.zeros(R.shape([n]), "float32")
                r = (a, b, c)
                R.output(r)
            return r

    assert_unchanged(Found)


def test_results_that_leave_the_block_are_joined() -> None:
    @I.ir_module
    class TwoBlocks:
        @R.function
        def main(x: R.Tensor((2, 6, 9, 7), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                b = R.nn.conv2d(a, R.const(POINT))
                R.output(a, b)
            with R.dataflow():
                c = R.add(a, b)
                r = (c,)
                R.output(r)
            return r

    after = in_groups_of(1, TwoBlocks)
    assert operators(after).count("concat") == 3
    assert_same_results(after, TwoBlocks, normal(2, 6, 9, 7))

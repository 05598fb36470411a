"""Slices are views, parts of a concatenation are written where they belong; results are what they were."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import ir, relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.parts_in_place import JOIN, parts_in_place
from relaxc.passes.pipeline import graph_passes, lower_to_virtual_machine
from tests.passes.module_summary import normal, operators

BLOCK = 16
WEIGHT, OTHER = normal(32, 32, 3, 3), normal(64, 32, 1, 1, seed=1)


@I.ir_module
class CrossStage:
    """The pattern of YOLO's blocks: a half of the first result is worked on, and all results are joined."""

    @R.function
    def main(x: R.Tensor((1, 32, 16, 16), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(OTHER))
            halves = R.split(a, 2, axis=1)
            b = halves[1]
            c = R.nn.relu(R.nn.conv2d(b, R.const(WEIGHT), padding=(1, 1)))
            d = R.concat((halves[0], b, c), axis=1)
            e = R.nn.max_pool2d(d, (3, 3), padding=(1, 1))
            r = (R.concat((d, e), axis=1), c)
            R.output(r)
        return r


@I.ir_module
class Repeated:
    """Parts that are no kernel's own: one that occurs twice, an input, a result of the function."""

    @R.function
    def main(x: R.Tensor((1, 32, 16, 16), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(WEIGHT), padding=(1, 1))
            b = R.nn.max_pool2d(a, (3, 3), padding=(1, 1))
            c = R.concat((b, a, b, x), axis=1)
            d = R.concat((b, c), axis=1)
            r = (R.negative(c), R.negative(d), R.strided_slice(d, [1], [33], [64]))
            R.output(r)
        return r


@I.ir_module
class Batches:
    @R.function
    def main(x: R.Tensor((2, 32, 16, 16), "float32")):
        with R.dataflow():
            a = R.nn.conv2d(x, R.const(WEIGHT), padding=(1, 1))
            b = R.nn.max_pool2d(a, (3, 3), padding=(1, 1))
            r = (R.concat((a, b), axis=1),)
            R.output(r)
        return r


@I.ir_module
class Returned:
    """A result is a view of a tensor that nobody reads any more when later ones are computed."""

    @R.function
    def main(x: R.Tensor((1, 32, 16, 16), "float32")):
        with R.dataflow():
            a = R.nn.max_pool2d(x, (3, 3), padding=(1, 1))
            half = R.strided_slice(a, [1], [16], [32])
            b = R.nn.avg_pool2d(a, (3, 3), padding=(1, 1))
            c = R.nn.max_pool2d(b, (3, 3), padding=(1, 1))
            d = R.nn.avg_pool2d(c, (3, 3), padding=(1, 1))
            r = (half, R.nn.max_pool2d(d, (3, 3), padding=(1, 1)))
            R.output(r)
        return r


def fused(module: tvm.IRModule, without: str = "") -> tvm.IRModule:
    for step in graph_passes(BLOCK):
        if step.name != without:
            module = step.run(module)
    return module


def outputs(module: tvm.IRModule, x: np.ndarray) -> list[np.ndarray]:
    target = tvm.target.Target({"kind": "llvm", "num-cores": 1})
    with target:
        lowered = lower_to_virtual_machine()(module)
    executable = relax.build(lowered, target, relax_pipeline=None)
    results = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    return [np.asarray(result.numpy()) for result in results]


def joins(module: tvm.IRModule) -> int:
    found = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.ExternFunc) and expr.global_symbol == JOIN:
            found.append(expr)

    relax.analysis.post_order_visit(module["main"], visit)
    return len(found)


def copies(module: tvm.IRModule) -> list[str]:
    return [name for name in operators(module) if "concat" in name or "slice" in name or "split" in name]


@pytest.mark.parametrize(
    "module", [CrossStage, Repeated, Batches, Returned], ids=["stage", "repeated", "batches", "returned"]
)
def test_results_are_the_same_with_and_without(module: tvm.IRModule) -> None:
    x = normal(*(int(extent) for extent in module["main"].params[0].ty.shape), seed=3)
    expected = outputs(fused(module, without="parts-in-place"), x)
    for actual, wanted in zip(outputs(fused(module), x), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_nothing_of_a_cross_stage_block_is_copied() -> None:
    module = fused(CrossStage)
    assert joins(module) == 2
    assert not copies(module)
    assert copies(fused(CrossStage, without="parts-in-place"))


def test_pieces_of_one_tensor_are_that_tensor() -> None:
    @I.ir_module
    class Halves:
        @R.function
        def main(x: R.Tensor((1, 32, 8), "float32")):
            with R.dataflow():
                a = R.strided_slice(x, [1], [0], [20])
                b = R.strided_slice(x, [1], [20], [32])
                c = R.negative(R.concat((a, b), axis=1))
                R.output(c)
            return c

    assert operators(parts_in_place(Halves)) == ["negative"]


def test_parts_of_several_pictures_lie_apart_and_are_copied() -> None:
    assert joins(fused(Batches)) == 0


def test_conditions_are_left_alone() -> None:
    @I.ir_module
    class Choice:
        @R.function
        def main(x: R.Tensor((1, 4, 4096), "float32"), which: R.Tensor((), "bool")):
            if which:
                with R.dataflow():
                    a = R.mean(x, axis=[1], keepdims=True)
                    b = R.concat((a, x), axis=1)
                    R.output(b)
                r = b
            else:
                c = R.concat((x, R.mean(x, axis=[1], keepdims=True)), axis=1)
                r = c
            return r

    ir.assert_structural_equal(parts_in_place(Choice), relax.transform.DeadCodeElimination()(Choice), True)

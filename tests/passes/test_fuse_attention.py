"""Products around a softmax become one kernel, which reads and writes through the transposes around it."""

from __future__ import annotations

import numpy as np
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.fuse_attention import fuse_attention
from tests.passes.module_summary import assert_same_results, bindings, normal, operators

BLOCK = 4


def fused(module: tvm.IRModule, *inputs: np.ndarray) -> list[str]:
    """What the module calls after the pass, which must not have changed its results."""
    after = fuse_attention(module, BLOCK)
    assert_same_results(after, module, *inputs)
    return operators(after)


def test_heads_are_read_and_written_where_they_are() -> None:
    @I.ir_module
    class Heads:
        @R.function
        def main(
            q: R.Tensor((2, 9, 3, 5), "float32"),
            k: R.Tensor((2, 7, 3, 5), "float32"),
            v: R.Tensor((2, 7, 3, 4), "float32"),
        ):
            with R.dataflow():
                query = R.permute_dims(q, [0, 2, 1, 3])
                key = R.permute_dims(k, [0, 2, 1, 3])
                value = R.permute_dims(v, [0, 2, 1, 3])
                scores = R.matmul(query, R.permute_dims(key, [0, 1, 3, 2]))
                weights = R.nn.softmax(R.divide(scores, R.const(2.0, "float32")), axis=-1)
                y = R.permute_dims(R.matmul(weights, value), [0, 2, 1, 3])
                r = (y,)
                R.output(r)
            return r

    inputs = [normal(2, 9, 3, 5), normal(2, 7, 3, 5), normal(2, 7, 3, 4)]
    assert fused(Heads, *inputs) == ["attention1"]
    after = fuse_attention(Heads, BLOCK)
    operands = bindings(after)[0].args[1].fields
    assert all(a.same_as(b) for a, b in zip(operands, after["main"].params, strict=True))


def test_queries_keys_and_values_are_cut_from_one_tensor() -> None:
    @I.ir_module
    class SelfAttention:
        @R.function
        def main(x: R.Tensor((1, 8, 3, 2, 4), "float32")):
            with R.dataflow():
                parts = R.split(R.permute_dims(x, [2, 0, 3, 1, 4]), 3, axis=0)
                query = R.multiply(R.squeeze(parts[0], axis=[0]), R.const(0.5, "float32"))
                key = R.reshape(parts[1], (1, 2, 8, 4))
                value = R.reshape(parts[2], (1, 2, 8, 4))
                scores = R.matmul(query, R.permute_dims(key, [0, 1, 3, 2]))
                y = R.matmul(R.nn.softmax(scores, axis=3), value)
                r = (y,)
                R.output(r)
            return r

    assert fused(SelfAttention, normal(1, 8, 3, 2, 4)) == ["attention"]


def test_masks_apply_in_their_order() -> None:
    @I.ir_module
    class Masked:
        @R.function
        def main(
            q: R.Tensor((8, 4), "float32"),
            k: R.Tensor((4, 6), "float32"),
            v: R.Tensor((6, 4), "float32"),
            hidden: R.Tensor((6,), "bool"),
            bias: R.Tensor((8, 1), "float32"),
        ):
            with R.dataflow():
                scores = R.multiply(R.matmul(q, k), R.const(3.0, "float32"))
                shown = R.where(hidden, R.const(-1.0, "float32"), scores)
                y = R.matmul(R.nn.softmax(R.add(bias, shown), axis=-1), v)
                r = (y,)
                R.output(r)
            return r

    hidden = np.array([0, 1, 0, 0, 1, 0], bool)
    assert fused(Masked, normal(8, 4), normal(4, 6), normal(6, 4), hidden, normal(8, 1)) == ["attention"]


def test_symbolic_sequences() -> None:
    @I.ir_module
    class Symbolic:
        @R.function
        def main(
            q: R.Tensor(("b", "m", 4), "float32"),
            k: R.Tensor(("b", "n", 4), "float32"),
            v: R.Tensor(("b", "n", 4), "float32"),
        ):
            with R.dataflow():
                scores = R.matmul(q, R.permute_dims(k, [0, 2, 1]))
                y = R.matmul(R.nn.softmax(scores, axis=-1), v)
                r = (y,)
                R.output(r)
            return r

    assert fused(Symbolic, normal(2, 5, 4), normal(2, 3, 4), normal(2, 3, 4)) == ["attention"]


def test_scores_that_are_a_result_too_stay() -> None:
    @I.ir_module
    class Watched:
        @R.function
        def main(
            q: R.Tensor((8, 4), "float32"), k: R.Tensor((4, 6), "float32"), v: R.Tensor((6, 4), "float32")
        ):
            with R.dataflow():
                weights = R.nn.softmax(R.matmul(q, k), axis=-1)
                y = R.matmul(weights, v)
                r = (y, weights)
                R.output(r)
            return r

    assert fused(Watched, normal(8, 4), normal(4, 6), normal(6, 4)) == ["matmul", "nn.softmax", "matmul"]


def test_one_query_is_no_block() -> None:
    @I.ir_module
    class Single:
        @R.function
        def main(
            q: R.Tensor((1, 4), "float32"), k: R.Tensor((4, 6), "float32"), v: R.Tensor((6, 4), "float32")
        ):
            with R.dataflow():
                y = R.matmul(R.nn.softmax(R.matmul(q, k), axis=-1), v)
                r = (y,)
                R.output(r)
            return r

    assert "attention" not in fused(Single, normal(1, 4), normal(4, 6), normal(6, 4))


def test_scores_divided_by_zero_are_no_scaled_scores() -> None:
    @I.ir_module
    class DividedByZero:
        @R.function
        def main(
            q: R.Tensor((2, 9, 5), "float32"),
            k: R.Tensor((2, 5, 7), "float32"),
            v: R.Tensor((2, 7, 4), "float32"),
        ):
            with R.dataflow():
                scores = R.divide(R.matmul(q, k), R.const(0.0, "float32"))
                y = R.matmul(R.nn.softmax(scores, axis=-1), v)
                r = (y,)
                R.output(r)
            return r

    assert operators(fuse_attention(DividedByZero, BLOCK)) == ["matmul", "divide", "nn.softmax", "matmul"]

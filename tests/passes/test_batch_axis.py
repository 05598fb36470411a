"""What can be computed for a part of a batch: the operators that treat every image by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from relaxc.passes.batch_axis import batch_of, cut_operands, has_batch
from relaxc.passes.split_batch import split_batch
from tests.passes.module_summary import normal, operators, results

BATCH = 4
WEIGHT, SQUARE, VECTOR = normal(6, 6, 3, 3), normal(BATCH, BATCH), normal(6)
Expression = Callable[[relax.Expr], relax.Expr]

INDEPENDENT: dict[str, Expression] = {
    "exp": op.exp,
    "clip": lambda x: op.clip(x, 0, 1),
    "a scalar": lambda x: op.add(x, relax.const(2.0, "float32")),
    "fewer axes": lambda x: op.multiply(x, relax.const(normal(8))),
    "one image": lambda x: op.subtract(relax.const(normal(1, 6, 1, 8)), x),
    "twice the same": lambda x: op.multiply(x, x),
    "where": lambda x: op.where(
        op.greater(relax.const(normal(6, 8, 8)), relax.const(0.0)), x, op.negative(x)
    ),
    "convolution": lambda x: op.nn.conv2d(x, relax.const(WEIGHT), padding=1),
    "pooling": lambda x: op.nn.max_pool2d(x, pool_size=(2, 2), strides=(2, 2)),
    "mean over the picture": lambda x: op.mean(x, [2, -1], keepdims=True),
    "sum over channels": lambda x: op.sum(x, 1),
    "softmax over channels": lambda x: op.nn.softmax(x, 1),
    "normalisation": lambda x: op.nn.layer_norm(x, relax.const(normal(8)), relax.const(normal(8)), [-1]),
    "concatenation of channels": lambda x: op.concat([x, x], axis=1),
    "repetition of rows": lambda x: op.repeat(x, 2, axis=2),
    "channels behind": lambda x: op.permute_dims(x, [0, 2, 3, 1]),
    "flattened pictures": lambda x: op.reshape(x, (BATCH, 6, 64)),
    "some rows": lambda x: op.strided_slice(x, axes=[2], begin=[1], end=[8], strides=[3]),
    "product with weights": lambda x: op.matmul(x, relax.const(normal(8, 5))),
    "product of images": lambda x: op.matmul(x, x),
}
MIXING: dict[str, Expression] = {
    "an array with the batch": lambda x: op.add(x, relax.const(normal(BATCH, 1, 1, 1))),
    "mean over images": lambda x: op.mean(x, [0], keepdims=True),
    "mean over all": lambda x: op.mean(x),
    "softmax over images": lambda x: op.nn.softmax(x, -4),
    "concatenation of images": lambda x: op.concat([x, x], axis=0),
    "repetition of images": lambda x: op.repeat(x, 2, axis=0),
    "repetition of all": lambda x: op.repeat(x, 2),
    "images behind": lambda x: op.permute_dims(x, [1, 0, 2, 3]),
    "axes reversed": op.permute_dims,
    "images and channels in one": lambda x: op.reshape(x, (BATCH * 6, 64)),
    "some images": lambda x: op.strided_slice(x, axes=[0], begin=[0], end=[2]),
    "an operator unknown here": lambda x: op.cumsum(x, 1),
}


def module_of(expression: Expression) -> tvm.IRModule:
    x = relax.Var("x", relax.TensorType((BATCH, 6, 8, 8), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(relax.Tuple([builder.emit(builder.normalize(expression(x)))]))
        builder.emit_func_output(result)
    return builder.get()


def by_single_images(module: tvm.IRModule) -> tvm.IRModule:
    return split_batch(module, lambda run: [1] * len(run.steps))


@pytest.mark.parametrize("name", INDEPENDENT)
def test_operators_on_single_images_give_what_they_give_on_all(name: str) -> None:
    whole = module_of(INDEPENDENT[name])
    split = by_single_images(whole)
    assert "strided_slice" in operators(split)
    assert "concat" in operators(split)
    x = normal(BATCH, 6, 8, 8, seed=1)
    np.testing.assert_array_equal(results(split, x), results(whole, x))


@pytest.mark.parametrize("name", MIXING)
def test_operators_that_mix_images_stay_whole(name: str) -> None:
    whole = module_of(MIXING[name])
    tvm.ir.assert_structural_equal(by_single_images(whole), whole)


def test_what_a_product_adds_up_is_no_batch() -> None:
    x, y = (relax.Var(name, relax.TensorType((BATCH, BATCH), "float32")) for name in "xy")
    product = relax.BlockBuilder().normalize(op.matmul(x, y))
    assert cut_operands(product, BATCH) == ()


def test_a_batch_is_the_first_extent_of_a_tensor_with_known_ones() -> None:
    rows = tvm.tirx.Var("rows", "int64")
    assert batch_of(relax.TensorType((3, 2), "float32")) == 3
    assert batch_of(relax.TensorType((), "float32")) is None
    assert batch_of(relax.TensorType((3, rows), "float32")) is None
    assert batch_of(relax.TensorType(ndim=2, dtype="float32")) is None
    images = relax.TensorType((3, 2), "float32")
    assert has_batch(relax.TupleType([images, images]), 3)
    assert not has_batch(relax.TupleType([images, relax.TensorType((2, 3), "float32")]), 3)

"""A transposed convolution is an ordinary one, followed by an interleaving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.assign_layouts import assign_layouts
from relaxc.passes.lower_transposed_conv2d import lower_transposed_conv2d
from tests.passes.module_summary import assert_same_results, normal, operators


def transposed(
    weight: np.ndarray, *, variable: bool = False, symbolic: bool = False, **attributes: Any
) -> tvm.IRModule:
    extents = [tvm.tirx.Var(name, "int64") for name in ("n", "h", "w")] if symbolic else [2, 5, 4]
    x = relax.Var("x", relax.TensorType([extents[0], weight.shape[0], *extents[1:]], "float32"))
    w = relax.Var("w", relax.TensorType(weight.shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w] if variable else [x]):
        with builder.dataflow():
            operand = w if variable else relax.const(weight)
            y = builder.emit(relax.op.nn.conv2d_transpose(x, operand, **attributes))
            result = builder.emit_output(relax.Tuple([y]))
        builder.emit_func_output(result)
    return builder.get()


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("window", [(1, 1), (2, 3), (5, 3)])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": (2, 2)},
        {"strides": (2, 1), "padding": (1, 0, 0, 1)},
        {"strides": (3, 2), "padding": (1, 1), "output_padding": (1, 1)},
    ],
    ids=str,
)
def test_results_stay(window: tuple[int, int], attributes: dict[str, Any], symbolic: bool) -> None:
    if window == (1, 1) and "padding" in attributes:
        attributes = {"strides": attributes["strides"]}
    module = transposed(normal(3, 5, *window), symbolic=symbolic, **attributes)
    after = lower_transposed_conv2d(module)
    assert operators(after) == ["nn.conv2d", "interleave_phases"]
    assert_same_results(after, module, normal(2, 3, 5, 4, seed=1))


@pytest.mark.parametrize("channels", [13, 5, 32])
def test_phases_begin_with_blocks_of_their_own_where_that_is_cheap(channels: int) -> None:
    module = transposed(normal(3, channels, 3, 2), strides=(2, 2), padding=(1, 0))
    lowered = lower_transposed_conv2d(module, block=16)
    after = assign_layouts(lowered, block=16)
    assert_same_results(after, module, normal(2, 3, 5, 4, seed=1))
    moved = ["interleave_phases", "unpack_nchwc"] if channels > 5 else ["unpack_nchwc", "interleave_phases"]
    assert [name.rstrip("0123456789") for name in operators(after)][-2:] == moved


@pytest.mark.parametrize("attributes", [{"groups": 2}, {"dilation": (2, 1)}], ids=str)
def test_groups_and_dilation_stay(attributes: dict[str, Any]) -> None:
    module = transposed(normal(4, 3, 3, 3), **attributes)
    tvm.ir.assert_structural_equal(lower_transposed_conv2d(module), module)


def test_weights_known_at_run_time_only_stay() -> None:
    module = transposed(normal(4, 3, 3, 3), variable=True)
    tvm.ir.assert_structural_equal(lower_transposed_conv2d(module), module)


def test_ordinary_convolutions_stay() -> None:
    weight = normal(4, 3, 3, 3)

    @I.ir_module
    class Ordinary:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32")):
            with R.dataflow():
                y = R.nn.conv2d(x, R.const(weight))
                r = (y,)
                R.output(r)
            return r

    tvm.ir.assert_structural_equal(lower_transposed_conv2d(Ordinary), Ordinary)

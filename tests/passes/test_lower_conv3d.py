"""A three-dimensional convolution is a two-dimensional one of gathered slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relaxc.passes.lower_conv3d import lower_conv3d
from tests.passes.module_summary import assert_same_results, normal, operators


def convolution(
    weight: np.ndarray, *, symbolic: bool = False, depth: Any = 6, channels: int = 3, **attributes: Any
) -> tvm.IRModule:
    n, h, w = [tvm.tirx.Var(name, "int64") for name in ("n", "h", "w")] if symbolic else [2, 7, 5]
    x = relax.Var("x", relax.TensorType([n, channels, depth, h, w], "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv3d(x, relax.const(weight), **attributes))
            result = builder.emit_output(relax.Tuple([y]))
        builder.emit_func_output(result)
    return builder.get()


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("window", [(1, 1, 1), (3, 3, 3), (4, 1, 2)])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"padding": (1, 1, 1)},
        {"strides": (2, 1, 2), "padding": (1, 2, 0, 0, 1, 1)},
        {"dilation": (1, 2, 3), "padding": 2},
        {"dilation": (2, 1, 1), "padding": (3, 0, 1)},
    ],
    ids=str,
)
def test_results_stay(window: tuple[int, int, int], attributes: dict[str, Any], symbolic: bool) -> None:
    module = convolution(normal(5, 3, *window), symbolic=symbolic, **attributes)
    after = lower_conv3d(module)
    assert operators(after) == ["gather_slices", "nn.conv2d", "reshape", "permute_dims"]
    assert_same_results(after, module, normal(2, 3, 6, 7, 5, seed=1))


def test_groups_stay() -> None:
    module = convolution(normal(4, 3, 3, 3, 3), channels=6, groups=2)
    tvm.ir.assert_structural_equal(lower_conv3d(module), module)


def test_unknown_depths_stay() -> None:
    module = convolution(normal(4, 3, 3, 3, 3), depth=tvm.tirx.Var("d", "int64"))
    tvm.ir.assert_structural_equal(lower_conv3d(module), module)

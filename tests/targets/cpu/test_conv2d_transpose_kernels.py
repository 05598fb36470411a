"""Transposed convolutions against NumPy: any strides and windows, padding, groups, holes."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from tests.targets.cpu.test_conv2d_kernels import random_epilogue
from tests.targets.kernel_workloads import Workload, check_random, normal, some_symbolic
from tests.targets.numpy_reference import Window, conv2d_transpose

CONV2D = frozenset({"conv2d"})
TVM_CONV2D_TRANSPOSE = frozenset({"reduction"})
"""Groups and holes in the window are left to TVM's definition."""


def random_window(generator: np.random.Generator, dilated: bool) -> Window:
    """Padding cuts off less than the window adds, so that something remains of the smallest map."""
    R, S = (int(extent) for extent in generator.integers(1, 6, 2))
    stride_h, stride_w = (int(stride) for stride in generator.integers(1, 5, 2))
    hole_h, hole_w = (int(hole) for hole in generator.choice([1, 2], 2)) if dilated else (1, 1)
    rows, columns = (R - 1) * hole_h, (S - 1) * hole_w
    top, left = int(generator.integers(0, rows + 1)), int(generator.integers(0, columns + 1))
    bottom, right = int(generator.integers(0, rows - top + 1)), int(generator.integers(0, columns - left + 1))
    return Window((R, S), (stride_h, stride_w), (top, left, bottom, right), (hole_h, hole_w))


def transposed(generator: np.random.Generator, groups: int, dilated: bool) -> Workload:
    window = random_window(generator, dilated)
    inputs, outputs = (int(channels) for channels in generator.choice([1, 3, 5, 16, 24, 33], 2))
    x = normal(generator, int(generator.integers(1, 3)), groups * inputs, *generator.integers(1, 14, 2))
    weight = normal(generator, groups * inputs, outputs, *window.size) / np.float32(np.sqrt(inputs))
    extra = int(generator.integers(window.strides[0])), int(generator.integers(window.strides[1]))
    name, relax_epilogue, numpy_epilogue = random_epilogue(generator, groups * outputs)
    symbolic = some_symbolic(generator, x.shape, [0, 2, 3])

    def operator(data: relax.Expr) -> relax.Expr:
        result = relax.op.nn.conv2d_transpose(
            data,
            relax.const(weight),
            strides=window.strides,
            padding=window.padding,
            output_padding=extra,
            dilation=window.dilation,
            groups=groups,
        )
        return relax_epilogue(result)

    return Workload(
        f"{symbolic} = {x.shape}, {weight.shape}, {window}, {extra}, groups {groups}, then {name}",
        operator,
        [x],
        numpy_epilogue(conv2d_transpose(x, weight, window, extra, groups)),
        CONV2D if groups == 1 and window.dilation == (1, 1) else TVM_CONV2D_TRANSPOSE,
        [symbolic],
    )


def random_transposed(generator: np.random.Generator) -> Workload:
    groups = int(generator.choice([1, 1, 1, 1, 1, 2, 3]))
    return transposed(generator, groups, dilated=bool(generator.random() < 0.1))


@pytest.mark.workloads_a_seed(20)
def test_random_transposed_convolutions_agree_with_numpy(seed: int) -> None:
    check_random(random_transposed, seed, count=20)


def test_random_transposed_convolutions_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_transposed, seed=1000, target=avx2, count=6)

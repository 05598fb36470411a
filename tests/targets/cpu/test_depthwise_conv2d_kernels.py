"""Depthwise convolutions in blocked layouts, against NumPy."""

from __future__ import annotations

import numpy as np
from tvm import relax

from tests.targets.kernel_workloads import Workload, check, check_random, normal, some_symbolic
from tests.targets.numpy_reference import Window, conv2d

DEPTHWISE = frozenset({"depthwise_conv2d"})


def depthwise(
    x: np.ndarray, weight: np.ndarray, window: Window, bias: np.ndarray | None, shape: list[int | str]
) -> Workload:
    """A depthwise convolution, with a bias and ReLU6 behind it unless ``bias`` is None."""
    C = x.shape[1]

    def operator(data: relax.Expr) -> relax.Expr:
        result = relax.op.nn.conv2d(
            data,
            relax.const(weight),
            strides=window.strides,
            padding=window.padding,
            dilation=window.dilation,
            groups=C,
        )
        return result if bias is None else relax.op.clip(relax.op.add(result, relax.const(bias)), 0.0, 6.0)

    expected = conv2d(x, weight, window, groups=C)
    return Workload(
        f"{shape} * {weight.shape}, {window}, bias: {bias is not None}",
        operator,
        [x],
        expected if bias is None else np.clip(expected + bias, 0, 6),
        DEPTHWISE,
        [shape],
    )


def random_depthwise(generator: np.random.Generator) -> Workload:
    R, S = (int(extent) for extent in generator.integers(1, 8, 2))
    stride_h, stride_w = (int(stride) for stride in generator.integers(1, 4, 2))
    top, left, bottom, right = (int(pad) for pad in generator.integers(0, 4, 4))
    dilation_h, dilation_w = (int(dilation) for dilation in generator.choice([1, 1, 1, 2, 3], 2))
    window = Window((R, S), (stride_h, stride_w), (top, left, bottom, right), (dilation_h, dilation_w))
    C = int(generator.choice([2, 3, 8, 15, 16, 17, 32, 40]))
    least = window.extents[0] - top - bottom, window.extents[1] - left - right
    H, W = (max(1, extent) + int(generator.integers(0, 25)) for extent in least)
    x = normal(generator, int(generator.integers(1, 3)), C, H, W)
    bias = normal(generator, 1, C, 1, 1) if generator.random() < 0.6 else None
    return depthwise(
        x, normal(generator, C, 1, R, S), window, bias, some_symbolic(generator, x.shape, [0, 2, 3])
    )


def test_random_depthwise_convolutions_agree_with_numpy(seed: int) -> None:
    check_random(random_depthwise, seed)


def test_random_depthwise_convolutions_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_depthwise, seed=1000, target=avx2, count=6)


def test_one_dimensional_depthwise_convolutions_have_a_height_of_one() -> None:
    generator = np.random.default_rng(0)
    window = Window((1, 5), (1, 2), (0, 2, 0, 2), (1, 1))
    x, weight = normal(generator, 2, 21, 1, 37), normal(generator, 21, 1, 1, 5)
    shapes: list[list[int | str]] = [[2, 21, 1, 37], [2, 21, 1, "time"], ["batch", 21, 1, "time"]]
    check([depthwise(x, weight, window, None, shape) for shape in shapes])


def test_several_outputs_for_each_group_are_no_depthwise_convolution() -> None:
    generator = np.random.default_rng(0)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    x, weight = normal(generator, 1, 3, 9, 9), normal(generator, 6, 1, 3, 3)
    check(
        [
            Workload(
                "two outputs a group",
                lambda data: relax.op.nn.conv2d(data, relax.const(weight), padding=(1, 1), groups=3),
                [x],
                conv2d(x, weight, window, groups=3),
                frozenset({"conv2d"}),
            )
        ]
    )

"""Convolutions in blocked layouts, against NumPy: every geometry, channel count and epilogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tvm import relax

from tests.targets.kernel_workloads import (
    CompiledWorkloads,
    Draw,
    Shapes,
    Workload,
    check,
    check_random,
    normal,
    some_symbolic,
)
from tests.targets.numpy_reference import Window, conv2d

CONV2D = frozenset({"conv2d"})
TVM_CONV2D = frozenset({"reduction"})
"""Groups that do not fill blocks stay in NCHW, computed by TVM's definition."""
POINT = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))


def random_window(generator: np.random.Generator, largest: int = 5) -> Window:
    R, S = (int(extent) for extent in generator.integers(1, largest + 1, 2))
    stride_h, stride_w = (int(stride) for stride in generator.integers(1, 4, 2))
    top, left, bottom, right = (int(pad) for pad in generator.integers(0, 3, 4))
    dilation_h, dilation_w = (int(dilation) for dilation in generator.choice([1, 1, 1, 2, 3], 2))
    return Window((R, S), (stride_h, stride_w), (top, left, bottom, right), (dilation_h, dilation_w))


def random_map(generator: np.random.Generator, channels: int, window: Window) -> np.ndarray:
    """A map on which the window fits at least once."""
    top, left, bottom, right = window.padding
    least = window.extents[0] - top - bottom, window.extents[1] - left - right
    H, W = (max(1, extent) + int(generator.integers(0, 19)) for extent in least)
    return normal(generator, int(generator.integers(1, 3)), channels, H, W)


def filters(generator: np.random.Generator, outputs: int, inputs: int, window: Window) -> np.ndarray:
    """Weights that keep the variance of a map of ``inputs`` channels."""
    weight = normal(generator, outputs, inputs, *window.size)
    return np.asarray(weight / np.sqrt(weight[0].size), np.float32)


def relax_conv2d(x: relax.Expr, weight: np.ndarray, window: Window, groups: int = 1) -> relax.Expr:
    return relax.op.nn.conv2d(
        x,
        relax.const(weight),
        strides=window.strides,
        padding=window.padding,
        dilation=window.dilation,
        groups=groups,
    )


Epilogue = tuple[str, Callable[[relax.Expr], relax.Expr], Callable[[np.ndarray], np.ndarray]]


def epilogues(bias: np.ndarray) -> Sequence[Epilogue]:
    """What may follow a convolution, in Relax and in NumPy."""
    return (
        ("nothing", lambda y: y, lambda y: y),
        ("bias", lambda y: relax.op.add(y, relax.const(bias)), lambda y: y + bias),
        (
            "bias and relu",
            lambda y: relax.op.nn.relu(relax.op.add(y, relax.const(bias))),
            lambda y: np.maximum(y + bias, 0),
        ),
        (
            "silu",
            lambda y: relax.op.multiply(y, relax.op.sigmoid(y)),
            lambda y: y / (1 + np.exp(-y)),
        ),
        (
            "division by a channel's constant, and exponential",
            lambda y: relax.op.exp(relax.op.divide(relax.op.tanh(y), relax.const(np.abs(bias) + 1))),
            lambda y: np.exp(np.tanh(y) / (np.abs(bias) + 1)),
        ),
    )


def convolution(
    x: np.ndarray,
    weight: np.ndarray,
    window: Window,
    groups: int,
    epilogue: Epilogue,
    templates: frozenset[str],
    symbolic: Sequence[int | str] | None = None,
) -> Workload:
    name, relax_epilogue, numpy_epilogue = epilogue
    return Workload(
        description=f"{symbolic or x.shape} * {weight.shape}, {window}, groups {groups}, then {name}",
        operator=lambda data: relax_epilogue(relax_conv2d(data, weight, window, groups)),
        inputs=[x],
        expected=numpy_epilogue(conv2d(x, weight, window, groups)),
        templates=templates,
        shapes=None if symbolic is None else [symbolic],
    )


def random_epilogue(generator: np.random.Generator, channels: int) -> Epilogue:
    choices = epilogues(normal(generator, 1, channels, 1, 1))
    return choices[int(generator.integers(len(choices)))]


def random_dense(generator: np.random.Generator) -> Workload:
    window = random_window(generator)
    C = int(generator.choice([1, 3, 4, 5, 8, 16, 17, 32, 40, 64]))
    O = int(generator.choice([1, 5, 8, 16, 20, 32, 33, 48, 64, 96]))  # noqa: E741
    x = random_map(generator, C, window)
    symbolic = some_symbolic(generator, x.shape, [0, 2, 3])
    weight = filters(generator, O, C, window)
    return convolution(x, weight, window, 1, random_epilogue(generator, O), CONV2D, symbolic)


def random_grouped(generator: np.random.Generator) -> Workload:
    window = random_window(generator, largest=3)
    groups = int(generator.choice([2, 3, 4]))
    whole = bool(generator.random() < 0.6)
    O = groups * (int(generator.choice([16, 32, 48])) if whole else int(generator.choice([3, 5, 7])))  # noqa: E741
    I = int(generator.choice([2, 3, 8, 16, 17]))  # noqa: E741
    x = random_map(generator, groups * I, window)
    symbolic = some_symbolic(generator, x.shape, [0, 2, 3])
    weight = filters(generator, O, I, window)
    return convolution(x, weight, window, groups, random_epilogue(generator, O), CONV2D, symbolic)


def random_point(generator: np.random.Generator) -> Workload:
    C, O = (int(channels) for channels in generator.choice([1, 7, 16, 24, 64, 130], 2))  # noqa: E741
    x = normal(generator, 1, C, *(int(extent) for extent in generator.integers(1, 30, 2)))
    symbolic = some_symbolic(generator, x.shape, [0, 2, 3])
    weight = filters(generator, O, C, POINT)
    return convolution(x, weight, POINT, 1, random_epilogue(generator, O), CONV2D, symbolic)


def random_one_dimensional(generator: np.random.Generator) -> Workload:
    """The importer gives a one-dimensional convolution a height of one."""
    taps, stride, left, right = (int(n) for n in generator.integers([1, 1, 0, 0], [8, 4, 4, 4]))
    window = Window((1, taps), (1, stride), (0, left, 0, right), (1, int(generator.choice([1, 2]))))
    C, O = (int(channels) for channels in generator.choice([1, 6, 16, 31], 2))  # noqa: E741
    x = normal(generator, 2, C, 1, max(1, window.extents[1] - left - right) + int(generator.integers(0, 40)))
    symbolic = some_symbolic(generator, x.shape, [0, 3])
    weight = filters(generator, O, C, window)
    return convolution(x, weight, window, 1, random_epilogue(generator, O), CONV2D, symbolic)


def random_first_layer(generator: np.random.Generator) -> Workload:
    """Pictures of few channels under a large window that makes large steps."""
    R, S = (int(extent) for extent in generator.integers(3, 12, 2))
    stride_h, stride_w = (int(stride) for stride in generator.integers(1, 5, 2))
    padding = tuple(int(generator.integers(0, extent // 2 + 1)) for extent in (R, S, R, S))
    window = Window((R, S), (stride_h, stride_w), (padding[0], padding[1], padding[2], padding[3]), (1, 1))
    C, O = int(generator.integers(1, 5)), int(generator.choice([8, 16, 24, 32, 64]))  # noqa: E741
    x = random_map(generator, C, window)
    symbolic = some_symbolic(generator, x.shape, [0, 2, 3])
    weight = filters(generator, O, C, window)
    return convolution(x, weight, window, 1, random_epilogue(generator, O), CONV2D, symbolic)


FAMILIES = (random_dense, random_grouped, random_point, random_one_dimensional, random_first_layer)


def random_any(generator: np.random.Generator) -> Workload:
    return FAMILIES[int(generator.integers(len(FAMILIES)))](generator)


@pytest.mark.workloads_a_seed(10)
@pytest.mark.parametrize("draw", FAMILIES)
def test_random_convolutions_agree_with_numpy(draw: Draw, seed: int) -> None:
    check_random(draw, seed, count=10)


def test_random_convolutions_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_any, seed=1000, target=avx2, count=8)


def two_convolutions(generator: np.random.Generator, middle: int, symbolic: bool) -> Workload:
    """A region of two convolutions with ``middle`` channels between them, where idle lanes could leak."""
    first, second = normal(generator, middle, 5, 3, 3), normal(generator, 6, middle, 3, 3)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    x = normal(generator, 1, 5, 9, 11)

    def operator(data: relax.Expr) -> relax.Expr:
        # exp makes idle lanes one and log makes them minus infinity
        hidden = relax.op.exp(relax.op.tanh(relax_conv2d(data, first, window)))
        return relax_conv2d(relax.op.log(hidden), second, window)

    hidden = np.tanh(conv2d(x, first, window))
    return Workload(
        f"two convolutions through {middle} channels",
        operator,
        [x],
        conv2d(hidden, second, window),
        CONV2D,
        [[1, 5, "height", "width"]] if symbolic else None,
    )


def test_idle_lanes_between_convolutions_are_never_read() -> None:
    generator = np.random.default_rng(0)
    check([two_convolutions(generator, middle, s) for middle in (1, 7, 16, 17, 30) for s in (False, True)])


def test_a_residual_addition_becomes_an_epilogue() -> None:
    generator = np.random.default_rng(0)
    weight = normal(generator, 20, 20, 3, 3)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    x = normal(generator, 2, 20, 10, 13)
    any_size: Shapes = [["n", 20, "h", "w"]]
    check(
        [
            Workload(
                "relu(conv(x) + x)",
                lambda data: relax.op.nn.relu(relax.op.add(relax_conv2d(data, weight, window), data)),
                [x],
                np.maximum(conv2d(x, weight, window) + x, 0),
                CONV2D,
                shapes,
            )
            for shapes in (None, any_size)
        ]
    )


def test_one_symbolic_kernel_serves_every_size() -> None:
    generator = np.random.default_rng(0)
    weight, window = normal(generator, 20, 6, 3, 2), Window((3, 2), (2, 1), (1, 0, 1, 1), (1, 1))
    epilogue = epilogues(normal(generator, 1, 20, 1, 1))[2]
    x = normal(generator, 1, 6, 8, 8)
    compiled = CompiledWorkloads([convolution(x, weight, window, 1, epilogue, CONV2D, ["n", 6, "h", "w"])])
    for shape in ((1, 6, 1, 1), (1, 6, 1, 40), (3, 6, 40, 1), (2, 6, 13, 29), (5, 6, 2, 33)):
        x = normal(generator, *shape)
        np.testing.assert_allclose(
            compiled(0, [x]), epilogue[2](conv2d(x, weight, window)), rtol=1e-5, atol=1e-4
        )


def test_groups_that_cannot_fill_a_block_are_reduced_one_by_one() -> None:
    generator = np.random.default_rng(0)
    window, groups = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), 37
    x, weight = normal(generator, 1, 2 * groups, 9, 9), filters(generator, 3 * groups, 2, window)
    check([convolution(x, weight, window, groups, random_epilogue(generator, 3 * groups), TVM_CONV2D)])

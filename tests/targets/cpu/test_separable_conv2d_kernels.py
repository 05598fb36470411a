"""Chains of pointwise and depthwise convolutions in one kernel, against NumPy."""

from __future__ import annotations

import numpy as np
from tvm import relax

from relaxc.passes.fuse_separable_conv2d import ChainExtents
from tests.targets.kernel_workloads import Extent, Workload, check, check_random, normal
from tests.targets.numpy_reference import Window, conv2d

POINT = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
ONE_KERNEL = frozenset({"separable_conv2d"})
OWN_KERNELS = frozenset({"conv2d", "depthwise_conv2d"})


def always(_extents: ChainExtents) -> bool:
    return True


class Chain:
    """An inverted residual, or its end: weights, and what they make of a map."""

    def __init__(
        self, generator: np.random.Generator, channels: tuple[int, int, int], window: Window, *, expand: bool
    ) -> None:
        narrow, wide, out = channels
        self.window, self.wide = window, wide
        self.expand = normal(generator, wide, narrow, 1, 1) if expand else None
        self.depthwise = normal(generator, wide, 1, *window.size)
        self.project = normal(generator, out, wide, 1, 1)
        self.biases = [normal(generator, 1, extent, 1, 1) for extent in (wide, wide, out)]

    def operator(self, x: relax.Expr) -> relax.Expr:
        op, y = relax.op, x
        if self.expand is not None:
            y = op.clip(op.nn.conv2d(y, relax.const(self.expand)) + relax.const(self.biases[0]), 0, 6)
        weight, window = relax.const(self.depthwise), self.window
        y = op.nn.conv2d(y, weight, strides=window.strides, padding=window.padding, groups=self.wide)
        y = op.nn.relu(y + relax.const(self.biases[1]))
        y = op.nn.conv2d(y, relax.const(self.project)) + relax.const(self.biases[2])
        return y + x if self.has_residual else y

    @property
    def has_residual(self) -> bool:
        (rows, columns), (top, left, bottom, right) = self.window.size, self.window.padding
        same = self.window.strides == (1, 1) and (rows, columns) == (top + bottom + 1, left + right + 1)
        read = self.depthwise if self.expand is None else self.expand.transpose(1, 0, 2, 3)
        return same and read.shape[0] == self.project.shape[0]

    def expected(self, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x
        if self.expand is not None:
            y = np.clip(conv2d(y, self.expand, POINT) + self.biases[0], 0, 6)
        y = np.maximum(conv2d(y, self.depthwise, self.window, groups=self.wide) + self.biases[1], 0)
        y = conv2d(y, self.project, POINT) + self.biases[2]
        return y + x if self.has_residual else y

    def workload(
        self, x: np.ndarray, templates: frozenset[str], shape: list[Extent] | None = None
    ) -> Workload:
        text = f"{x.shape}, {self.window}, {self.project.shape[:2]}, expand: {self.expand is not None}"
        shapes = None if shape is None else [shape]
        return Workload(text, self.operator, [x], self.expected(x), templates, shapes)


def random_chain(generator: np.random.Generator) -> Workload:
    size = int(generator.choice([3, 3, 5]))
    stride = int(generator.integers(1, 3))
    top, left, bottom, right = (int(pad) for pad in generator.integers(0, size // 2 + 1, 4))
    if generator.random() < 0.5:
        top = left = bottom = right = size // 2
    window = Window((size, size), (stride, stride), (top, left, bottom, right), (1, 1))
    narrow, wide, out = (int(generator.choice([16, 24, 32, 40, 48])) for _ in range(3))
    if generator.random() < 0.3:
        out = narrow
    expand = bool(generator.random() < 0.6)
    images, height, width = int(generator.integers(1, 3)), *(int(e) for e in generator.integers(6, 30, 2))
    x = normal(generator, images, narrow if expand else wide, height, width)
    return Chain(generator, (narrow, wide, out), window, expand=expand).workload(x, ONE_KERNEL)


def test_random_chains_agree_with_numpy(seed: int) -> None:
    check_random(random_chain, seed, count=12, choose_chain=always)


def test_random_chains_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_chain, seed=1000, target=avx2, count=4, choose_chain=always)


def test_chains_with_symbolic_extents_keep_a_kernel_for_each_convolution() -> None:
    generator = np.random.default_rng(0)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    chain = Chain(generator, (16, 32, 16), window, expand=True)
    x = normal(generator, 1, 16, 9, 11)
    check(
        [
            chain.workload(x, OWN_KERNELS, [1, 16, "height", 11]),
            chain.workload(x, OWN_KERNELS, ["n", 16, 9, 11]),
        ],
        choose_chain=always,
    )


def softly(y: relax.Expr) -> relax.Expr:
    """Mish, written as elementary functions that are nested too deeply for one expression."""
    return relax.op.multiply(y, relax.op.tanh(relax.op.nn.softplus(y)))


def test_epilogues_of_several_steps_stay_within_the_bands() -> None:
    generator, op = np.random.default_rng(0), relax.op
    shapes = (32, 16, 1, 1), (32, 1, 3, 3), (16, 32, 1, 1)
    weights = [normal(generator, *shape) for shape in shapes]
    x, window = normal(generator, 1, 16, 12, 14), Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))

    def operator(data: relax.Expr) -> relax.Expr:
        expand, depthwise, project = map(relax.const, weights)
        y = softly(op.nn.conv2d(data, expand))
        y = softly(op.nn.conv2d(y, depthwise, padding=(1, 1), groups=32))
        return softly(op.nn.conv2d(y, project))

    expected: np.ndarray = x
    for weight, around, groups in zip(weights, (POINT, window, POINT), (1, 32, 1), strict=True):
        sums = conv2d(expected, weight, around, groups=groups)
        expected = sums * np.tanh(np.logaddexp(0, sums))
    check([Workload("mish", operator, [x], expected, ONE_KERNEL)], choose_chain=always)

"""Convolutions in three dimensions against NumPy: windows of several slices, strides, padding, holes."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from tests.targets.cpu.test_conv2d_kernels import Epilogue, epilogues
from tests.targets.kernel_workloads import Workload, check_random, normal, some_symbolic
from tests.targets.numpy_reference import conv3d

CONV2D = frozenset({"conv2d"})


def random_epilogue(generator: np.random.Generator, channels: int) -> Epilogue:
    choices = epilogues(normal(generator, 1, channels, 1, 1, 1))
    return choices[int(generator.integers(len(choices)))]


def random_convolution(generator: np.random.Generator) -> Workload:
    window, strides = (tuple(int(n) for n in generator.integers(1, 4, 3)) for _ in range(2))
    padding = [int(pad) for pad in generator.integers(0, 3, 6)]
    dilation = [int(hole) for hole in generator.choice([1, 1, 1, 2], 3)]
    least = [
        max(1, (taps - 1) * hole + 1 - front - back)
        for taps, hole, front, back in zip(window, dilation, padding[:3], padding[3:], strict=True)
    ]
    inputs, outputs = (int(channels) for channels in generator.choice([1, 3, 8, 16, 20], 2))
    extents = [extent + int(more) for extent, more in zip(least, generator.integers(0, 8, 3), strict=True)]
    x = normal(generator, int(generator.integers(1, 3)), inputs, *extents)
    weight = normal(generator, outputs, inputs, *window) / np.float32(np.sqrt(inputs * np.prod(window)))
    name, relax_epilogue, numpy_epilogue = random_epilogue(generator, outputs)
    symbolic = some_symbolic(generator, x.shape, [0, 3, 4])

    def operator(data: relax.Expr) -> relax.Expr:
        result = relax.op.nn.conv3d(
            data, relax.const(weight), strides=strides, padding=padding, dilation=dilation
        )
        return relax_epilogue(result)

    return Workload(
        f"{symbolic} * {weight.shape}, {strides=}, {padding=}, {dilation=}, then {name}",
        operator,
        [x],
        numpy_epilogue(conv3d(x, weight, strides, padding, dilation)),
        CONV2D,
        [symbolic],
    )


@pytest.mark.workloads_a_seed(20)
def test_random_convolutions_agree_with_numpy(seed: int) -> None:
    check_random(random_convolution, seed, count=20)


def test_random_convolutions_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_convolution, seed=1000, target=avx2, count=6)

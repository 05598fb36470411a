"""Pooling of plain and of blocked maps, against NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tvm import relax, te, topi

from relaxc.targets.cpu.schedule_kernels import schedule_kernel
from relaxc.targets.registry import resolve
from tests.targets.kernel_workloads import Workload, check, check_random, normal, some_symbolic
from tests.targets.numpy_reference import Window, windows

POOLING = frozenset({"reduction"})
BEHIND_CONVOLUTION = frozenset({"reduction", "conv2d"})


def max_pool(x: np.ndarray, window: Window) -> np.ndarray:
    return np.asarray(windows(x, window, -np.inf).max((-2, -1)))


def average_pool(x: np.ndarray, window: Window, count_padding: bool) -> np.ndarray:
    total = windows(x, window, 0.0).sum((-2, -1))
    counted = windows(np.ones_like(x), window, float(count_padding)).sum((-2, -1))
    return np.asarray(total / counted)


def random_window(generator: np.random.Generator) -> Window:
    """Padding is narrower than the window, so that every window holds an element."""
    R, S = (int(extent) for extent in generator.integers(1, 6, 2))
    stride_h, stride_w = (int(stride) for stride in generator.integers(1, 4, 2))
    top, left, bottom, right = (int(generator.integers(0, min(3, extent))) for extent in (R, S, R, S))
    return Window((R, S), (stride_h, stride_w), (top, left, bottom, right), (1, 1))


def random_pool(generator: np.random.Generator) -> Workload:
    window = random_window(generator)
    C = int(generator.choice([1, 3, 16, 17, 32]))
    H, W = (extent + int(generator.integers(0, 20)) for extent in window.size)
    x = normal(generator, int(generator.integers(1, 3)), C, H, W)
    kind = str(generator.choice(["max", "average", "average with padding"]))
    mixing = normal(generator, C, C, 1, 1) if generator.random() < 0.5 else None

    def operator(data: relax.Expr) -> relax.Expr:
        if mixing is not None:
            data = relax.op.nn.conv2d(data, relax.const(mixing))
        geometry = {"pool_size": window.size, "strides": window.strides, "padding": window.padding}
        if kind == "max":
            return relax.op.nn.max_pool2d(data, **geometry)
        return relax.op.nn.avg_pool2d(data, **geometry, count_include_pad=kind == "average with padding")

    maps = x.astype(np.float64) if mixing is None else np.einsum("oi,nihw->nohw", mixing[:, :, 0, 0], x)
    expected = max_pool(maps, window) if kind == "max" else average_pool(maps, window, kind != "average")
    shape = some_symbolic(generator, x.shape, [0, 2, 3])
    behind = "" if mixing is None else " behind a convolution"
    return Workload(
        f"{kind} pooling of {shape}, {window}{behind}",
        operator,
        [x],
        expected,
        POOLING if mixing is None else BEHIND_CONVOLUTION,
        [shape],
    )


def test_random_pools_agree_with_numpy(seed: int) -> None:
    check_random(random_pool, seed)


def test_random_pools_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_pool, seed=1000, target=avx2, count=6)


def test_global_pooling_of_blocked_maps_ignores_idle_lanes() -> None:
    generator = np.random.default_rng(0)
    x, weight = normal(generator, 2, 5, 9, 7), normal(generator, 21, 5, 1, 1)
    maps = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0].astype(np.float64), x)

    def mean(data: relax.Expr) -> relax.Expr:
        return relax.op.mean(relax.op.nn.conv2d(data, relax.const(weight)), [2, 3], keepdims=True)

    def adaptive(data: relax.Expr) -> relax.Expr:
        return relax.op.nn.adaptive_avg_pool2d(relax.op.nn.conv2d(data, relax.const(weight)), (1, 1))

    expected = maps.mean((2, 3), keepdims=True)
    check([Workload(op.__name__, op, [x], expected, BEHIND_CONVOLUTION) for op in (mean, adaptive)])


def test_dilated_windows() -> None:
    x = normal(np.random.default_rng(0), 1, 16, 15, 14)
    window = Window((3, 2), (1, 2), (1, 0, 0, 1), (2, 3))

    def operator(data: relax.Expr) -> relax.Expr:
        return relax.op.nn.max_pool2d(data, (3, 2), (1, 2), (1, 0, 0, 1), (2, 3))

    check([Workload("dilated", operator, [x], max_pool(x, window), POOLING)])


def test_a_last_window_that_overlaps_the_edge_counts_in_ceil_mode() -> None:
    x = normal(np.random.default_rng(0), 1, 16, 12, 12)
    padded = Window((3, 3), (2, 2), (0, 0, 1, 1), (1, 1))

    def operator(data: relax.Expr) -> relax.Expr:
        return relax.op.nn.max_pool2d(data, (3, 3), (2, 2), ceil_mode=True)

    check([Workload("ceil mode", operator, [x], max_pool(x, padded), POOLING)])


@pytest.mark.parametrize("lanes", [8, 16])
def test_a_block_of_channels_is_pooled_as_a_vector(lanes: int) -> None:
    x = te.placeholder((1, 2, 20, 20, lanes), name="x")
    y = topi.nn.pool2d(x, [3, 3], [2, 2], [1, 1], [1, 1, 1, 1], "max", layout=f"NCHW{lanes}c")
    scheduled = schedule_kernel(te.create_prim_func([x, y]), resolve("x86-64-v3").machine)
    assert scheduled.template == "reduction"
    vectorised = re.findall(r"T\.vectorized\((\d+)\)", str(scheduled.function.script()))
    assert vectorised
    assert set(vectorised) == {str(lanes)}

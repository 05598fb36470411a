"""Winograd's convolution against NumPy: extents that tiles do not divide, padding, epilogues, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax, tirx
from tvm.s_tir import Schedule

from relaxc.passes.compute.winograd import POINTS, Tiling
from relaxc.passes.lower_winograd_conv2d import Conv2dExtents
from relaxc.passes.pipeline import graph_passes
from relaxc.targets.cpu.templates.winograd_conv2d import WinogradConv2dTemplate
from relaxc.targets.cpu.winograd_costs import choose_tiling
from relaxc.targets.registry import resolve
from tests.targets.cpu.test_conv2d_kernels import convolution, filters, random_epilogue, relax_conv2d
from tests.targets.cpu.test_template_spaces import result
from tests.targets.kernel_workloads import CompiledWorkloads, Workload, check_random, normal
from tests.targets.numpy_reference import Window, conv2d

WINOGRAD = frozenset({"winograd_conv2d"})
LARGEST_ERROR = {4: 2e-5, 6: 1.5e-4}
TYPICAL_ERROR = {4: 1.5e-6, 6: 6e-6}
"""Relative to the root mean square of the results: the largest of many errors, and their root mean square."""


def window(padding: tuple[int, int, int, int]) -> Window:
    return Window((3, 3), (1, 1), padding, (1, 1))


def random_tiling(generator: np.random.Generator, tile: int = 4) -> Callable[[Conv2dExtents], Tiling]:
    """Tilings that no cost model would choose, too: one tile in a block, blocks larger than the picture."""

    def choose(_extents: Conv2dExtents) -> Tiling:
        return Tiling(tile, int(generator.integers(1, 26)))

    return choose


def random_convolution(generator: np.random.Generator) -> Workload:
    top, left, bottom, right = (int(pad) for pad in generator.integers(0, 3, 4))
    around = window((top, left, bottom, right))
    C = int(generator.choice([5, 8, 16, 17, 32, 40, 64]))
    O = int(generator.choice([1, 8, 16, 20, 33, 48, 64]))  # noqa: E741
    H, W = (int(extent) for extent in generator.integers(3, 30, 2))
    x = normal(generator, int(generator.integers(1, 4)), C, H, W)
    weight = filters(generator, O, C, around)
    return convolution(x, weight, around, 1, random_epilogue(generator, O), WINOGRAD)


@pytest.mark.workloads_a_seed(6)
@pytest.mark.parametrize("tile", list(POINTS))
def test_random_convolutions_agree_with_numpy(tile: int, seed: int) -> None:
    choose = random_tiling(np.random.default_rng(seed), tile)
    check_random(random_convolution, seed, count=6, choose_tiling=choose, tolerance=LARGEST_ERROR[tile])


def test_random_convolutions_agree_with_numpy_on_avx2(avx2: str) -> None:
    choose = random_tiling(np.random.default_rng(1000))
    check_random(
        random_convolution, 1000, target=avx2, count=3, choose_tiling=choose, tolerance=LARGEST_ERROR[4]
    )


def random_symbolic_convolution(generator: np.random.Generator) -> Workload:
    """Height, width and sometimes the batch are symbolic."""
    known = random_convolution(generator)
    batch, channels, _, _ = known.inputs[0].shape
    extents: list[int | str] = [batch if generator.random() < 0.5 else "n", channels, "h", "w"]
    return replace(known, shapes=[extents])


@pytest.mark.workloads_a_seed(6)
@pytest.mark.parametrize("tile", list(POINTS))
def test_random_convolutions_of_symbolic_extents_agree_with_numpy(tile: int, seed: int) -> None:
    choose = random_tiling(np.random.default_rng(seed), tile)
    draw = random_symbolic_convolution
    check_random(draw, seed, count=6, choose_tiling=choose, tolerance=LARGEST_ERROR[tile])


def test_one_kernel_serves_maps_of_any_size() -> None:
    """Also those whose last block has more tiles behind the end of the map than in it."""
    generator, around = np.random.default_rng(1), window((1, 1, 1, 1))
    weight = filters(generator, 16, 16, around)
    maps = [normal(generator, 2, 16, H, W) for H, W in ((1, 1), (4, 5), (3, 40), (41, 7), (24, 24))]
    workload = Workload(
        "any size",
        lambda data: relax_conv2d(data, weight, around),
        maps[:1],
        conv2d(maps[0], weight, around),
        WINOGRAD,
        shapes=[[2, 16, "h", "w"]],
    )
    compiled = CompiledWorkloads([workload], choose_tiling=lambda _extents: Tiling(4, 10))
    for x in maps:
        expected = conv2d(x, weight, around)
        errors = np.abs(compiled(0, [x]) - expected) / np.sqrt(np.mean(expected**2))
        assert errors.max() < LARGEST_ERROR[4]


def test_padding_around_an_empty_map_is_zero() -> None:
    """The kernel, which may not know that the map is empty, reads nothing."""
    generator, around = np.random.default_rng(1), window((2, 2, 2, 2))
    weight, x = filters(generator, 16, 16, around), normal(generator, 1, 16, 5, 6)
    workload = Workload(
        "padded widely",
        lambda data: relax_conv2d(data, weight, around),
        [x],
        conv2d(x, weight, around),
        WINOGRAD,
        shapes=[[1, 16, "h", "w"]],
    )
    compiled = CompiledWorkloads([workload], choose_tiling=lambda _extents: Tiling(4, 4))
    for H, W in ((0, 6), (5, 0), (0, 0)):
        np.testing.assert_array_equal(compiled(0, [normal(generator, 1, 16, H, W)]), 0.0)


@pytest.mark.parametrize("tile", list(POINTS))
@pytest.mark.parametrize("positive", [False, True], ids=["signed", "after a relu"])
def test_errors_stay_small(tile: int, positive: bool) -> None:
    generator = np.random.default_rng(tile)
    x, around = normal(generator, 2, 64, 36, 36), window((1, 1, 1, 1))
    x = np.abs(x) if positive else x
    weight = filters(generator, 32, 64, around)
    expected = conv2d(x, weight, around)
    workload = Workload(
        "64 channels", lambda data: relax_conv2d(data, weight, around), [x], expected, WINOGRAD
    )
    compiled = CompiledWorkloads([workload], choose_tiling=lambda _extents: Tiling(tile, 6))
    errors = np.abs(compiled(0, [x]) - expected) / np.sqrt(np.mean(expected**2))
    assert errors.max() < LARGEST_ERROR[tile]
    assert np.sqrt(np.mean(errors**2)) < TYPICAL_ERROR[tile]


def kernel_with_residual(generator: np.random.Generator) -> tirx.PrimFunc:
    """relu(conv(x) + x) for 20 channels, 6 tiles of 4 in a block, unscheduled."""
    target = resolve("native")
    weight = relax.const(normal(generator, 20, 20, 3, 3))
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([2, 20, 11, 13], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, weight, padding=(1, 1)))
            output = builder.emit_output(relax.Tuple([relax.op.nn.relu(relax.op.add(y, x))]))
        builder.emit_func_output(output)
    module = builder.get()
    lanes = target.machine.lanes("float32")
    for step in graph_passes(lanes, choose_tiling=lambda _extents: Tiling(4, 6)):
        module = step.run(module)
    (kernel,) = [f for name, f in module.functions_items() if "winograd" in name.name_hint]
    assert "relu" in str(module.get_global_vars())
    return kernel


def schedule_for(kernel: tirx.PrimFunc) -> Schedule:
    schedule = Schedule(tvm.IRModule({"main": kernel}))
    schedule.work_on("main")
    return schedule


def test_every_point_of_the_space_computes_the_same() -> None:
    generator, target, template = np.random.default_rng(0), resolve("native"), WinogradConv2dTemplate()
    kernel = kernel_with_residual(generator)
    workload = template.matches(schedule_for(kernel))
    assert workload is not None
    inputs = [normal(generator, *(int(e) for e in param.shape)) for param in kernel.params[:-1]]
    expected = result(kernel, inputs, target)
    points = list(template.space(workload, target.machine))
    assert template.default(workload, target.machine) in points
    for config in (points[0], points[len(points) // 2], points[-2], points[-1]):
        schedule = schedule_for(kernel)
        template.apply(schedule, workload, config)
        actual = result(schedule.mod["main"], inputs, target)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4, err_msg=str(config))


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_the_cost_model_takes_winograd_for_large_maps_of_many_channels(target: str) -> None:
    machine = resolve(target).machine
    blocks = 64 // machine.lanes("float32")
    tiling = choose_tiling(Conv2dExtents(1, 64, blocks, 56, 56), machine)
    assert tiling is not None
    assert tiling.tile == 4


def test_the_cost_model_takes_winograd_where_extents_are_guessed() -> None:
    machine = resolve("x86-64-v4").machine
    assert choose_tiling(Conv2dExtents(1, 64, 4, 56, 56, guessed=True), machine) is not None
    assert choose_tiling(Conv2dExtents(1, 3, 1, 56, 56, guessed=True), machine) is None


@pytest.mark.parametrize(
    "extents",
    [
        Conv2dExtents(1, 3, 1, 56, 56),
        Conv2dExtents(1, 64, 4, 3, 3),
        Conv2dExtents(1, 64, 4, 0, 56),
    ],
    ids=["few channels", "small map", "no elements"],
)
def test_the_cost_model_leaves_the_rest_direct(extents: Conv2dExtents) -> None:
    assert choose_tiling(extents, resolve("x86-64-v4").machine) is None

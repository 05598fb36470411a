"""Kernels on AMX, run on any x86 processor: what it lacks, an emulator in C does (``amx_emulator.c``).

The emulator ends its process where AMX would refuse something, so everything runs in a process of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax, te, tirx

from relaxc.passes.compute.conv2d import Conv2dGeometry
from relaxc.passes.compute.conv2d_tiles import conv2d_tiles
from relaxc.passes.compute.layout import pack_matmul_weight
from relaxc.passes.compute.matmul_pairs import matmul_packed_pairs
from relaxc.passes.compute.pairs import TILE_DEPTH
from relaxc.passes.pipeline import forbid_aliasing
from relaxc.runtime.processor import missing_features
from relaxc.runtime.tensors import ElementType, tensor_over
from relaxc.targets.cpu.machine import Machine
from relaxc.targets.cpu.schedule_kernels import schedule_kernel
from relaxc.targets.cpu.templates.tile_products import TileProductTemplate
from relaxc.targets.cpu.tile_costs import TileConfig, TileWorkload
from relaxc.targets.cpu.tir_pipeline import TIR_PIPELINE
from relaxc.targets.registry import resolve
from tests.targets.bfloat16_workloads import convolution, rounded, scores
from tests.targets.cpu.test_conv2d_kernels import filters, random_map, random_window
from tests.targets.kernel_workloads import Workload, check, check_random, normal, some_symbolic
from tests.targets.numpy_reference import Window, conv2d

TARGET = {"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["+amx-tile", "+amx-bf16", "+avx512bf16"]}
MACHINE = replace(resolve(TARGET).machine, cores=2)
"""What schedules are chosen for, whatever machine the tests run on."""
TILES = frozenset({"tile_product"})
THREADS = 2
POINT = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))


def dense(generator: np.random.Generator, *extents: int) -> Workload:
    """A product with a constant, [..., M, K] times [K, N]; M may be known to the run only."""
    *shape, N = extents
    x, weight = rounded(normal(generator, *shape)), rounded(normal(generator, shape[-1], N))
    symbolic = some_symbolic(generator, x.shape, range(len(shape) - 1))
    return Workload(
        f"{symbolic} = {x.shape} @ constant {weight.shape}",
        lambda data: relax.op.matmul(data, relax.const(weight, "bfloat16"), out_dtype="float32"),
        [x],
        x.astype(np.float64) @ weight.astype(np.float64),
        TILES,
        [symbolic],
    )


def random_scores(generator: np.random.Generator) -> Workload:
    batch, tokens, heads = (int(extent) for extent in generator.integers(1, (3, 60, 4)))
    width = int(generator.integers(32, 80))
    q, k = (rounded(normal(generator, batch, tokens, heads, width)) for _ in range(2))
    return scores(q, k, TILES, q.shape)


def random_convolution(generator: np.random.Generator, channels: tuple[int, int], window: Window) -> Workload:
    """Maps narrower than a tile and wider than two; images may be as many as the run likes."""
    inputs, outputs = channels
    x = rounded(random_map(generator, inputs, window))
    if generator.random() < 0.3:
        x = np.concatenate([x, x, x], axis=3)
    weight = rounded(filters(generator, outputs, inputs, window))
    return convolution(x, weight, window, TILES, some_symbolic(generator, x.shape, [0]))


def idle_lanes_without_numbers(generator: np.random.Generator) -> Workload:
    """A quotient of two maps of 40 channels, of which the idle lanes are 0 / 0, before a product."""
    x = rounded(normal(generator, 1, 40, 9, 9))
    first, second, third = (rounded(filters(generator, 40, 40, POINT)) for _ in range(3))

    def operator(data: relax.Expr) -> relax.Expr:
        a, b, weight = (relax.const(filters, "bfloat16") for filters in (first, second, third))
        above, below = (relax.op.nn.conv2d(data, filters, out_dtype="float32") for filters in (a, b))
        quotient = relax.op.astype(relax.op.divide(above, below), "bfloat16")
        return relax.op.nn.conv2d(quotient, weight, out_dtype="float32")

    ratio = conv2d(x, first, POINT) / conv2d(x, second, POINT)
    expected = conv2d(rounded(ratio.astype(np.float32)), third, POINT)
    return Workload("idle lanes of a quotient", operator, [x], expected, TILES)


def random_workload(generator: np.random.Generator) -> Workload:
    kind = generator.choice(["dense", "scores", "convolution", "convolution"])
    if kind == "dense":
        M, K, N = (int(generator.integers(low, high)) for low, high in ((1, 100), (32, 140), (1, 100)))
        batch = [int(extent) for extent in generator.integers(1, 5, size=generator.integers(3))]
        return dense(generator, *batch, M, K, -(-N // 32) * 32 if generator.random() < 0.5 else N)
    if kind == "scores":
        return random_scores(generator)
    inputs = int(generator.integers(1, 5) if generator.random() < 0.2 else generator.integers(5, 70))
    return random_convolution(generator, (inputs, int(generator.integers(1, 100))), random_window(generator))


def check_emulated(emulator: str, seed: int, count: int) -> None:
    """Runs in the process that the emulator may end."""
    library = ctypes.CDLL(emulator)
    generator = np.random.default_rng(seed)
    check([random_workload(generator) for _ in range(count)], TARGET)
    assert library.amx_emulator_executed() > 0


def check_idle_lanes(emulator: str) -> None:
    """The quotients' own rounding is what the results may differ by."""
    ctypes.CDLL(emulator)
    check([idle_lanes_without_numbers(np.random.default_rng(0))], TARGET, tolerance=0.01)


def check_patches(emulator: str) -> None:
    """A row of the window takes several tiles: as where a picture is cut into patches."""
    library = ctypes.CDLL(emulator)
    generator = np.random.default_rng(0)
    check([random_convolution(generator, (3, 40), Window((16, 16), (16, 16), (0, 0, 0, 0), (1, 1)))], TARGET)
    assert library.amx_emulator_executed() > 0


def check_any_schedule(emulator: str, seed: int, count: int) -> None:
    """The same with points of the space in the place of the default, as for a machine with a small cache."""
    chosen = random.Random(seed)

    def default(self: TileProductTemplate, workload: TileWorkload, machine: Machine) -> TileConfig:
        small = replace(machine, l2_bytes=1 << 14)
        return chosen.choice(list(self.space(workload, small)))

    TileProductTemplate.default = default  # type: ignore[method-assign]
    check_emulated(emulator, seed, count)


def check_bounds(emulator: str) -> None:
    """A narrow result whose last panel has a single column, which LLVM would store with twice its width."""
    library = ctypes.CDLL(emulator)
    rows = columns = 17
    generator = np.random.default_rng(0)
    weight = rounded(normal(generator, 64, columns))
    memory = np.full(2 * rows * columns + 128, 0xAA, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: 2 * rows * columns + 64]
    result = tensor_over(memory[: 2 * rows * columns], (rows, columns), ElementType.named("bfloat16"))
    packed = pack_matmul_weight(weight, TILE_DEPTH, TILE_DEPTH)
    x = before_forbidden_page(rounded(normal(generator, rows, 64)))
    _narrow_product(x.shape, packed.shape, columns)(x, tvm.runtime.tensor(packed), result)
    assert library.amx_emulator_executed() > 0
    assert library.amx_emulator_configured() <= THREADS
    np.testing.assert_array_equal(memory[2 * rows * columns :], 0xAA)


def check_sweeps(emulator: str) -> None:
    """Six tasks of 16 rows, with room for four of them in the cache: none begins behind the last row."""
    library = ctypes.CDLL(emulator)
    generator = np.random.default_rng(0)
    x, weight = rounded(normal(generator, 96, 64)), rounded(normal(generator, 64, 17))
    memory = np.empty(2 * 96 * 17 + 64, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: 2 * 96 * 17]
    packed = pack_matmul_weight(weight, TILE_DEPTH, TILE_DEPTH)

    def default(self: TileProductTemplate, workload: TileWorkload, machine: Machine) -> TileConfig:
        points = self.space(workload, replace(machine, l2_bytes=1 << 14))
        return next(point for point in points if point.task == 16 and point.sweep)

    TileProductTemplate.default = default  # type: ignore[method-assign]
    product = _narrow_product(x.shape, packed.shape, 17)
    result = tensor_over(memory, (96, 17), ElementType.named("bfloat16"))
    product(before_forbidden_page(x), tvm.runtime.tensor(packed), result)
    assert library.amx_emulator_executed() > 0
    expected = rounded(x.astype(np.float32) @ weight.astype(np.float32)).astype(np.float32)
    actual = memory.view(ml_dtypes.bfloat16).reshape(96, 17).astype(np.float32)
    np.testing.assert_allclose(actual, expected, rtol=0.02, atol=0.02)


def before_forbidden_page(array: np.ndarray) -> tvm.runtime.Tensor:
    """A copy of ``array``, whole cache lines; reading behind its end ends the process."""
    assert array.nbytes % 64 == 0
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
    last = ctypes.c_void_p(pages.ctypes.data + size)
    assert ctypes.CDLL(None).mprotect(last, mmap.PAGESIZE, 0) == 0
    memory = pages[size - array.nbytes : size]
    memory[:] = array.reshape(-1).view(np.uint8)
    return tensor_over(memory, array.shape, ElementType.named(str(array.dtype)))


def _narrow_product(left: tuple[int, ...], right: tuple[int, ...], columns: int) -> Callable[..., None]:
    target = resolve(TARGET)
    x, w = te.placeholder(left, "bfloat16", name="x"), te.placeholder(right, "int32", name="w")
    product = matmul_packed_pairs(x, w, columns, TILE_DEPTH)
    narrow = te.compute(product.shape, lambda *i: product(*i).astype("bfloat16"), name="narrow")
    scheduled = schedule_kernel(te.create_prim_func([x, w, narrow]), target.machine).function
    module = forbid_aliasing()(tvm.IRModule({"main": scheduled.with_attr("global_symbol", "main")}))
    compiled: Callable[..., None] = tvm.compile(module, target.tvm_target, tir_pipeline=TIR_PIPELINE)["main"]
    return compiled


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("the emulator of AMX needs gcc")
    if missing_features(["avx512f", "avx512_bf16"]):
        pytest.skip("this CPU lacks AVX512-BF16, which every processor with AMX has")
    library = tmp_path_factory.mktemp("emulator") / "amx_emulator.so"
    source = Path(__file__).with_name("amx_emulator.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def run_emulated(emulator: Path, statement: str) -> None:
    code = f"from tests.targets.cpu import test_tile_products as tests; tests.{statement}"
    folder = Path(__file__).parents[3]
    environment = {**os.environ, "TVM_NUM_THREADS": str(THREADS)}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-4000:]


def test_random_products_agree_with_numpy(emulator: Path, seed: int) -> None:
    run_emulated(emulator, f"check_emulated({str(emulator)!r}, {seed}, 40)")


def test_patches_of_a_picture_are_multiplied_on_tiles(emulator: Path) -> None:
    run_emulated(emulator, f"check_patches({str(emulator)!r})")


def test_idle_lanes_that_are_no_numbers_do_not_spread(emulator: Path) -> None:
    run_emulated(emulator, f"check_idle_lanes({str(emulator)!r})")


@pytest.mark.skipif(bool(missing_features(["amx_tile", "amx_bf16"])), reason="this CPU has no AMX")
def test_random_products_agree_with_numpy_on_the_processor_itself(seed: int) -> None:
    check_random(random_workload, 500 + seed, TARGET)


def test_every_schedule_computes_the_same(emulator: Path) -> None:
    run_emulated(emulator, f"check_any_schedule({str(emulator)!r}, 1, 30)")


def test_nothing_is_touched_behind_operands_and_narrow_results(emulator: Path) -> None:
    run_emulated(emulator, f"check_bounds({str(emulator)!r})")


def test_no_task_of_a_sweep_begins_behind_the_last_row(emulator: Path) -> None:
    run_emulated(emulator, f"check_sweeps({str(emulator)!r})")


MATRIX = TileWorkload("matmul_tiles", 1, 1, 128, 0, 4, 32, 24, True, True)
MAP = TileWorkload("conv2d_tiles", 1, 14, 14, 16, 8, 32, 72, True, True)


@pytest.mark.parametrize(
    ("workload", "tiles"),
    [
        (MATRIX, (16, 2, 1)),
        (replace(MATRIX, width=7), (7, 1, 2)),  # a row of tiles meets four columns of them
        (replace(MATRIX, width=28), (14, 2, 1)),
        (replace(MATRIX, width=None), (16, 2, 1)),
        (replace(MAP, height=7, width=7, pitch=9), (16, 2, 1)),  # no row of this map fills a tile
        (replace(MAP, height=1, width=64, pitch=0), (16, 2, 1)),  # a signal in steps of two
    ],
)
def test_four_tiles_are_summed_at_a_time(workload: TileWorkload, tiles: tuple[int, int, int]) -> None:
    config = TileProductTemplate().default(workload, MACHINE)
    assert (config.rows, config.row_tiles, config.panels) == tiles


def test_rows_of_a_large_matrix_stay_in_the_cache_while_panels_pass_by() -> None:
    deep, machine = replace(MATRIX, width=4096, steps=96, panels=24), MACHINE
    config = TileProductTemplate().default(deep, machine)
    assert 0 < config.sweep * config.task * 96 * 64 <= machine.l2_bytes


@pytest.mark.parametrize("width", [96, 197, 384, 4096])
def test_sweeps_have_as_many_tasks(width: int) -> None:
    machine = replace(MACHINE, l2_bytes=1 << 20)
    points = list(TileProductTemplate().space(replace(MATRIX, width=width, steps=96), machine))
    assert any(point.sweep for point in points)
    assert all(-(-width // point.task) % point.sweep == 0 for point in points if point.sweep)


def scheduled_product(*rows: int | tirx.Var) -> tirx.PrimFunc:
    x = te.placeholder((*rows, 768), "bfloat16", name="x")
    w = te.placeholder((24, 384, 32), "int32", name="w")
    function = te.create_prim_func([x, w, matmul_packed_pairs(x, w, 768, TILE_DEPTH)])
    return schedule_kernel(function, MACHINE).function


def scheduled_convolution(size: int, window: int, stride: int) -> tirx.PrimFunc:
    x = te.placeholder((1, 4, size, size, 32), "bfloat16", name="x")
    w = te.placeholder((4, 4, window, window, 16, 32), "int32", name="w")
    geometry = Conv2dGeometry((stride, stride), (window // 2,) * 4, (1, 1), 1)
    function = te.create_prim_func([x, w, conv2d_tiles(x, w, geometry, channels=128)])
    return schedule_kernel(function, MACHINE).function


def instructions(node: object) -> Counter[str]:
    """How often each of LLVM's intrinsics stands in ``node``."""
    return Counter(re.findall(r"llvm\.(?:x86\.)?(\w+)", str(node)))


def loops(function: tirx.PrimFunc) -> list[tirx.For]:
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(function, (tirx.For, found.append))
    return found


KERNELS = [
    *(scheduled_product(rows) for rows in (32, 128, 197)),
    scheduled_product(1, 14, 14),  # as one matrix; rows of 14 would meet four columns, one tile at a time
    *(
        scheduled_convolution(*numbers)
        for numbers in ((56, 1, 1), (56, 3, 1), (28, 3, 2), (14, 3, 1), (7, 3, 1))
    ),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_loaded_tile_takes_part_in_two_products(kernel: tirx.PrimFunc) -> None:
    counts = [instructions(loop.body) for loop in loops(kernel)]
    assert any(count["tdpbf16ps"] == count["tileloadd64"] == 4 for count in counts)


@pytest.mark.parametrize("kernel", KERNELS)
def test_tiles_are_configured_once_by_each_thread(kernel: tirx.PrimFunc) -> None:
    assert instructions(kernel)["ldtilecfg"] == instructions(kernel)["tilerelease"] == 1
    assert not any(instructions(loop.body)["ldtilecfg"] for loop in loops(kernel))


def test_rows_of_several_matrices_fill_tiles_together() -> None:
    """49 rows take four tiles; those of seven matrices would take seven."""
    together, alone = (instructions(scheduled_product(*rows)) for rows in ((7, 7), (49,)))
    assert together == alone


def test_the_window_is_inside_so_that_its_places_find_their_operands_in_the_cache() -> None:
    step = next(loop for loop in loops(scheduled_convolution(14, 3, 1)) if loop.loop_var.name == "v_block")
    assert [loop.loop_var.name for loop in loops(step.body)] == ["v_s", "v_r"]


def test_the_next_panel_is_fetched_while_tiles_are_multiplied() -> None:
    rows, panel_lines = 128, 768 * 32 * 2 // 64
    step = next(loop for loop in loops(scheduled_product(rows)) if instructions(loop.body)["prefetch"])
    blocks, steps = rows // 32, 24
    assert instructions(step.body)["prefetch"] * blocks * steps >= panel_lines

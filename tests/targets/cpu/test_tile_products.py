"""Kernels on AMX, run on any x86 processor: what it lacks, an emulator in C does (``amx_emulator.c``).

The emulator ends its process where AMX would refuse something, so everything runs in a process of its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import relax, te

from relaxc.passes.compute.layout import pack_matmul_weight
from relaxc.passes.compute.matmul_pairs import matmul_packed_pairs
from relaxc.passes.compute.pairs import TILE_DEPTH
from relaxc.passes.pipeline import forbid_aliasing
from relaxc.runtime.processor import missing_features
from relaxc.runtime.tensors import ElementType, tensor_over
from relaxc.targets.cpu.schedule_kernels import schedule_kernel
from relaxc.targets.cpu.templates.tile_products import TileProductTemplate
from relaxc.targets.cpu.tir_pipeline import TIR_PIPELINE
from relaxc.targets.registry import resolve
from tests.targets.cpu.test_conv2d_kernels import filters, random_map, random_window
from tests.targets.kernel_workloads import Workload, check, normal, some_symbolic
from tests.targets.numpy_reference import Window, conv2d

TARGET = {"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["+amx-tile", "+amx-bf16", "+avx512bf16"]}
TILES = frozenset({"tile_product"})


def rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(ml_dtypes.bfloat16)


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


def scores(generator: np.random.Generator, batch: int, tokens: int, heads: int, width: int) -> Workload:
    q, k = (rounded(normal(generator, batch, tokens, heads, width)) for _ in range(2))
    return Workload(
        f"scores of {q.shape}",
        lambda a, b: relax.op.matmul(
            relax.op.permute_dims(a, [0, 2, 1, 3]),
            relax.op.permute_dims(b, [0, 2, 3, 1]),
            out_dtype="float32",
        ),
        [q, k],
        np.einsum("bthc,bshc->bhts", q.astype(np.float64), k.astype(np.float64)),
        TILES,
    )


def convolution(generator: np.random.Generator, channels: tuple[int, int], window: Window) -> Workload:
    """Maps narrower than a tile and wider than two; images may be as many as the run likes."""
    inputs, outputs = channels
    x = rounded(random_map(generator, inputs, window))
    if generator.random() < 0.3:
        x = np.concatenate([x, x, x], axis=3)
    weight = rounded(filters(generator, outputs, inputs, window))
    symbolic = some_symbolic(generator, x.shape, [0])
    return Workload(
        f"{symbolic} = {x.shape} * {weight.shape}, {window}",
        lambda data: relax.op.nn.conv2d(
            data,
            relax.const(weight, "bfloat16"),
            strides=window.strides,
            padding=window.padding,
            dilation=window.dilation,
            out_dtype="float32",
        ),
        [x],
        conv2d(x, weight, window),
        TILES,
        [symbolic],
    )


def random_workload(generator: np.random.Generator) -> Workload:
    kind = generator.choice(["dense", "scores", "convolution", "convolution"])
    if kind == "dense":
        M, K, N = (int(generator.integers(low, high)) for low, high in ((1, 100), (32, 140), (1, 100)))
        return dense(generator, *([3] if generator.random() < 0.2 else []), M, K, N)
    if kind == "scores":
        batch, tokens, heads = (int(extent) for extent in generator.integers(1, (3, 60, 4)))
        return scores(generator, batch, tokens, heads, int(generator.integers(32, 80)))
    channels = int(generator.integers(5, 70)), int(generator.integers(1, 100))
    return convolution(generator, channels, random_window(generator))


def check_emulated(emulator: str, seed: int, count: int) -> None:
    """Runs in the process that the emulator may end."""
    library = ctypes.CDLL(emulator)
    generator = np.random.default_rng(seed)
    check([random_workload(generator) for _ in range(count)], TARGET)
    assert library.amx_emulator_executed() > 0


def check_bounds(emulator: str) -> None:
    """A narrow result whose last panel has a single column, which LLVM would store with twice its width."""
    library = ctypes.CDLL(emulator)
    rows = columns = 17
    generator = np.random.default_rng(0)
    weight = rounded(normal(generator, 40, columns))
    memory = np.full(2 * rows * columns + 128, 0xAA, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: 2 * rows * columns + 64]
    result = tensor_over(memory[: 2 * rows * columns], (rows, columns), ElementType.named("bfloat16"))
    packed = pack_matmul_weight(weight, TILE_DEPTH, TILE_DEPTH)
    x = tvm.runtime.tensor(rounded(normal(generator, rows, 40)))
    _narrow_product(x.shape, packed.shape, columns)(x, tvm.runtime.tensor(packed), result)
    assert library.amx_emulator_executed() > 0
    np.testing.assert_array_equal(memory[2 * rows * columns :], 0xAA)


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
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-4000:]


def test_random_products_agree_with_numpy(emulator: Path, seed: int) -> None:
    run_emulated(emulator, f"check_emulated({str(emulator)!r}, {seed}, 40)")


def test_nothing_is_written_behind_a_narrow_result(emulator: Path) -> None:
    run_emulated(emulator, f"check_bounds({str(emulator)!r})")


def test_four_tiles_are_summed_at_a_time() -> None:
    template, machine = TileProductTemplate(), resolve(TARGET).machine
    workload = functools.partial(TileWorkload, "matmul_tiles", lanes=32, whole_panels=True)
    assert template.default(workload(rows=128, panels=4), machine) == TileConfig(16, 2, 1)
    assert template.default(workload(rows=7, panels=4), machine) == TileConfig(7, 1, 2)
    assert template.default(workload(rows=28, panels=3), machine) == TileConfig(14, 2, 1)

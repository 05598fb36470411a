"""Products of float16 against NumPy: widened and summed in float32, and in short sums of float16.

Operands are rounded before NumPy sees them, and results stay in float32. So widened products must be as exact
as those of float32. Short sums may be wrong by what ``half_sums`` says. Where the processor lacks such
arithmetic, LLVM widens and rounds in each step, so that they are tested, slowly, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from tvm import relax

from relaxc.passes.compute.half_sums import MOST_TERMS, WindowTerms, terms_of, window_terms
from relaxc.runtime.processor import missing_features
from relaxc.targets.cpu.dot_products import Packing, packing_for
from relaxc.targets.registry import resolve
from tests.targets.bfloat16_workloads import convolution, rounded
from tests.targets.cpu.test_bfloat16_kernels import random_convolution, random_product
from tests.targets.cpu.test_conv2d_kernels import filters, random_map
from tests.targets.kernel_workloads import CompiledWorkloads, Workload, check_random, normal
from tests.targets.numpy_reference import Window

Draw = Callable[[np.random.Generator], Workload]
FAMILIES = [partial(random_product, dtype="float16"), partial(random_convolution, dtype="float16")]
HALF_SUMS_TOLERANCE = 0.02
"""An error of 0.0011 times the size of the result is usual; of thousands of results some have more."""


@pytest.fixture(autouse=True)
def _f16c() -> None:
    if missing_features(["f16c"]):
        pytest.skip("this CPU has no F16C")


@pytest.mark.workloads_a_seed(20)
@pytest.mark.parametrize("draw", FAMILIES, ids=["product", "convolution"])
def test_random_products_agree_with_numpy(draw: Draw, seed: int) -> None:
    level = "x86-64-v3" if missing_features(["avx512f"]) else "x86-64-v4"
    check_random(draw, 4000 + seed, level, count=20)


@pytest.mark.parametrize("draw", FAMILIES, ids=["product", "convolution"])
def test_random_products_agree_with_numpy_on_avx2(draw: Draw, avx2: str) -> None:
    check_random(draw, 5000, avx2, count=6)


@pytest.mark.parametrize("draw", FAMILIES, ids=["product", "convolution"])
def test_random_short_sums_agree_with_numpy(draw: Draw) -> None:
    packing = Packing(block=32, depth=MOST_TERMS)
    check_random(draw, 6000, count=8, tolerance=HALF_SUMS_TOLERANCE, packing=packing)


def long_product(generator: np.random.Generator) -> Workload:
    """Positive terms only: the sum grows as far as it can."""
    x = rounded(generator.uniform(0, 1, (3, 4096)), "float16")
    weight = rounded(generator.uniform(0, 1, (4096, 32)), "float16")
    return Workload(
        "a long sum",
        lambda data: relax.op.matmul(data, relax.const(weight, "float16"), out_dtype="float32"),
        [x],
        x.astype(np.float64) @ weight.astype(np.float64),
        frozenset({"matmul"}),
    )


def test_the_error_of_short_sums_does_not_grow_with_their_number() -> None:
    """A single float16 sum would stop near 512, where a usual term is half a unit of its last place."""
    workload = long_product(np.random.default_rng(0))
    compiled = CompiledWorkloads([workload], packing=Packing(32, MOST_TERMS))
    relative = compiled(0, workload.inputs) / workload.expected - 1
    assert np.abs(relative).max() < 0.001


@pytest.mark.skipif(bool(missing_features(["avx512_fp16"])), reason="this CPU has no AVX512-FP16")
@pytest.mark.parametrize("draw", FAMILIES, ids=["product", "convolution"])
def test_random_products_agree_with_numpy_in_float16_arithmetic(draw: Draw) -> None:
    check_random(draw, 7000, count=20, tolerance=HALF_SUMS_TOLERANCE)


def test_only_processors_with_such_arithmetic_sum_in_float16() -> None:
    packings = [packing_for("float16", resolve(name).machine) for name in ("x86-64-v4", "sapphirerapids")]
    assert packings == [Packing(16, 1), Packing(32, MOST_TERMS)]


def test_sums_are_as_long_as_their_extent_allows() -> None:
    assert [terms_of(extent, 32) for extent in (768, 48, 40, 31, 37, 7)] == [32, 24, 20, 31, None, None]


def test_windows_of_few_channels_go_into_one_sum() -> None:
    assert window_terms(7, 7, 3, 32) == WindowTerms(1, 7, 3)
    assert window_terms(3, 3, 3, 32) == WindowTerms(3, 3, 3)
    assert window_terms(3, 3, 64, 32) == WindowTerms(1, 1, 32)
    assert window_terms(1, 1, 37, 32) is None


@pytest.mark.parametrize("channels", [3, 16, 64, 37])
def test_convolutions_in_short_sums_agree_with_numpy(channels: int) -> None:
    window = Window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))

    def draw(generator: np.random.Generator) -> Workload:
        x = rounded(random_map(generator, channels, window), "float16")
        weight = rounded(filters(generator, 32, channels, window), "float16")
        return convolution(x, weight, window, frozenset({"conv2d"}), x.shape)

    check_random(draw, 8000, count=2, tolerance=HALF_SUMS_TOLERANCE, packing=Packing(32, MOST_TERMS))


def test_values_that_stay_in_a_kernel_are_not_rounded() -> None:
    x = normal(np.random.default_rng(0), 3, 50)

    def chain(data: relax.Expr) -> relax.Expr:
        inside = relax.op.astype(relax.op.astype(relax.op.exp(data), "float16"), "float32")
        return relax.op.astype(relax.op.sqrt(inside), "float16")

    expected = np.sqrt(np.exp(x.astype(np.float64))).astype(np.float16)
    workload = Workload("chain", chain, [x], expected, frozenset({"elementwise"}))
    np.testing.assert_array_equal(CompiledWorkloads([workload])(0, [x]), expected)

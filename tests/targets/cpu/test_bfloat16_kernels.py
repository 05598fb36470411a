"""Products of bfloat16, summed in float32, against NumPy: with the processor's dot products and without.

Operands are rounded before NumPy sees them, and results stay in float32, so the kernels must be as exact as
those of float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from tests.targets.bfloat16_workloads import convolution, rounded, scores
from tests.targets.cpu.test_conv2d_kernels import filters, random_map, random_window
from tests.targets.kernel_workloads import (
    CompiledWorkloads,
    Target,
    Workload,
    check_random,
    normal,
    some_symbolic,
)

Draw = Callable[[np.random.Generator], Workload]


def random_dense(generator: np.random.Generator, dtype: str = "bfloat16") -> Workload:
    """A constant on the right; odd depths have a last pair that overlaps the one before."""
    M = int(generator.choice([1, 2, 3, 7, 13, 24, 31, 64]))
    K = int(generator.choice([2, 3, 5, 16, 33, 63, 64, 65, 200]))
    N = int(generator.choice([1, 3, 15, 16, 17, 32, 50, 64]))
    batch = [int(extent) for extent in generator.integers(1, 6, generator.choice([0, 0, 1, 2]))]
    x, weight = rounded(normal(generator, *batch, M, K), dtype), rounded(normal(generator, K, N), dtype)
    bias = normal(generator, N)
    shape = some_symbolic(generator, x.shape, range(len(batch) + 1))
    return Workload(
        f"{shape} @ constant {weight.shape} + bias",
        lambda data: relax.op.add(
            relax.op.matmul(data, relax.const(weight, dtype), out_dtype="float32"), relax.const(bias)
        ),
        [x],
        x.astype(np.float64) @ weight.astype(np.float64) + bias,
        frozenset({"matmul"}),
        [shape],
    )


def random_scores(generator: np.random.Generator, dtype: str = "bfloat16") -> Workload:
    """Queries times keys, read through the transposes that split the heads."""
    batch, tokens, heads, width = (int(extent) for extent in generator.choice([1, 2, 5, 16, 17], 4))
    q, k = (rounded(normal(generator, batch, tokens, heads, width + 1), dtype) for _ in range(2))
    symbolic = some_symbolic(generator, q.shape, [0, 1])
    return scores(q, k, frozenset({"matmul"}), symbolic)


def random_mixture(generator: np.random.Generator, dtype: str = "bfloat16") -> Workload:
    """Probabilities times values; the depth may be symbolic, and odd then."""
    batch, heads, width = (int(extent) for extent in generator.choice([1, 2, 5, 16, 17], 3))
    tokens = int(generator.choice([2, 3, 8, 17, 33]))
    p = rounded(normal(generator, batch, heads, tokens, tokens), dtype)
    v = rounded(normal(generator, batch, tokens, heads, width), dtype)
    values = some_symbolic(generator, v.shape, [0, 1])
    return Workload(
        f"mixture of {values}",
        lambda a, b: relax.op.matmul(a, relax.op.permute_dims(b, [0, 2, 1, 3]), out_dtype="float32"),
        [p, v],
        np.einsum("bhts,bshc->bhtc", p.astype(np.float64), v.astype(np.float64)),
        frozenset({"matmul"}),
        [[values[0], heads, values[1], values[1]], values],
    )


def random_convolution(generator: np.random.Generator, dtype: str = "bfloat16") -> Workload:
    """Dense, of an input with few channels, grouped by whole blocks, or depthwise."""
    window = random_window(generator, largest=4)
    kind = generator.choice(["dense", "dense", "few", "grouped", "depthwise"])
    if kind == "few":
        inputs, outputs, groups = int(generator.integers(1, 5)), int(generator.integers(1, 50)), 1
        template = "conv2d"
    elif kind == "dense":
        inputs, outputs, groups = 2 * int(generator.integers(1, 30)), int(generator.integers(1, 50)), 1
        template = "conv2d"
    elif kind == "grouped":
        groups = int(generator.integers(2, 4))
        inputs, outputs, template = 2 * groups * int(generator.integers(1, 9)), 16 * groups, "conv2d"
    else:
        inputs = outputs = groups = int(generator.integers(2, 50))
        template = "depthwise_conv2d"
    x = rounded(random_map(generator, inputs, window), dtype)
    weight = rounded(filters(generator, outputs, inputs // groups, window), dtype)
    symbolic = some_symbolic(generator, x.shape, [0, 2, 3])
    return convolution(x, weight, window, frozenset({template}), symbolic, groups)


def random_product(generator: np.random.Generator, dtype: str = "bfloat16") -> Workload:
    draws = (random_dense, random_scores, random_mixture)
    return draws[int(generator.integers(len(draws)))](generator, dtype)


FAMILIES = [random_product, random_convolution]


@pytest.mark.workloads_a_seed(20)
@pytest.mark.parametrize("draw", FAMILIES)
def test_random_products_agree_with_numpy(draw: Draw, seed: int, without_tiles: Target) -> None:
    check_random(draw, 2000 + seed, without_tiles, count=20)


@pytest.mark.parametrize("draw", FAMILIES)
def test_random_products_agree_with_numpy_without_dot_products(draw: Draw, avx2: str) -> None:
    check_random(draw, 3000, target=avx2, count=4)


def exponential_rounded_twice(data: relax.Expr) -> relax.Expr:
    inside = relax.op.astype(relax.op.astype(relax.op.exp(data), "bfloat16"), "float32")
    return relax.op.astype(relax.op.sqrt(inside), "bfloat16")


def test_values_that_stay_in_a_kernel_are_not_rounded() -> None:
    x = normal(np.random.default_rng(0), 3, 50)
    expected = np.sqrt(np.exp(x.astype(np.float64))).astype(np.float32)
    workload = Workload("chain", exponential_rounded_twice, [x], expected, frozenset({"elementwise"}))
    result = CompiledWorkloads([workload])(0, [x])
    np.testing.assert_array_equal(result.astype(np.float32), rounded(expected).astype(np.float32))


@pytest.mark.parametrize("shape", [(2,), (7,), (16,), (3, 24), (5, 64), ("n",)])
def test_rounding_is_to_nearest_and_ties_are_to_even(shape: tuple[int | str, ...]) -> None:
    extents = [1003 if extent == "n" else int(extent) for extent in shape]
    bits = np.random.default_rng(1).integers(0, 0x7F800000, extents, dtype=np.int64)
    bits[..., ::3] = bits[..., ::3] // 2**16 * 2**16 + 2**15  # a tie
    x = np.clip(bits.astype(np.uint32).view(np.float32), 1e-30, np.inf)
    x.flat[:: x.size - 1 or 1] = np.inf, np.nan
    expected = rounded(x).astype(np.float32)
    workload = Workload(
        "rounding", lambda data: relax.op.astype(data, "bfloat16"), [x], x, frozenset(), [shape]
    )
    result = CompiledWorkloads([workload])(0, [x])
    np.testing.assert_array_equal(result.astype(np.float32), expected)

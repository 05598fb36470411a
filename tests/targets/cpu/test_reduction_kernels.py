"""Reductions over any axes, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from tests.targets.kernel_workloads import (
    CompiledWorkloads,
    Workload,
    check,
    check_random,
    normal,
    some_symbolic,
)

REDUCTION = frozenset({"reduction"})
SCALAR = frozenset({"fallback"})
"""Arithmetic on a single number has no loop to schedule."""

OPERATORS: dict[str, tuple[Callable[..., relax.Expr], Callable[..., np.ndarray]]] = {
    "sum": (relax.op.sum, np.sum),
    "max": (relax.op.max, np.max),
    "min": (relax.op.min, np.min),
    "mean": (relax.op.mean, np.mean),
    "prod": (relax.op.prod, np.prod),
    "variance": (relax.op.variance, np.var),
}


def random_axes(generator: np.random.Generator, rank: int) -> list[int]:
    """One to all axes, some of them counted from the end; the innermost more often than others."""
    count = int(generator.integers(1, rank + 1))
    axes = [rank - 1] if generator.random() < 0.4 else list(generator.choice(rank, count, replace=False))
    return [int(axis) - (rank if generator.random() < 0.3 else 0) for axis in axes]


def random_shape(generator: np.random.Generator, rank: int) -> list[int]:
    extents = [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 48, 65]
    return [int(generator.choice(extents[: 12 if rank < 4 else 6])) for _ in range(rank)]


def reduction(
    name: str, x: np.ndarray, axes: list[int], keepdims: bool, shape: list[int | str] | None = None
) -> Workload:
    operator, reference = OPERATORS[name]
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    symbolic = shape is not None and any(isinstance(extent, str) for extent in shape)
    scalar = len(axes) == x.ndim > 1 and not keepdims and symbolic
    return Workload(
        f"{name} of {shape or x.shape} over {axes}, keepdims {keepdims}",
        lambda data: operator(data, axes, keepdims),
        [x],
        np.asarray(reference(wide, axis=tuple(axes), keepdims=keepdims)),
        SCALAR if name in ("mean", "variance") and scalar else REDUCTION,
        None if shape is None else [shape],
    )


def random_place(generator: np.random.Generator) -> Workload:
    """Where along an axis the largest or the smallest element is; no two are equal."""
    shape = random_shape(generator, int(generator.integers(2, 5)))
    x = generator.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
    axis, keepdims = int(generator.integers(-len(shape), len(shape))), bool(generator.random() < 0.5)
    largest = bool(generator.random() < 0.5)
    operator, reference = (relax.op.argmax, np.argmax) if largest else (relax.op.argmin, np.argmin)
    symbolic = some_symbolic(generator, shape, range(len(shape)))
    return Workload(
        f"{reference.__name__} of {symbolic} = {shape} over {axis}, keepdims {keepdims}",
        lambda data: operator(data, axis, keepdims),
        [x],
        reference(x, axis=axis, keepdims=keepdims),
        frozenset({"fallback"}),
        [symbolic],
    )


def random_reduction(generator: np.random.Generator) -> Workload:
    name = str(generator.choice(list(OPERATORS)))
    shape = random_shape(generator, int(generator.integers(1, 5)))
    axes = random_axes(generator, len(shape))
    if name == "prod":
        # Few factors other than one, and those powers of two: the product is exact.
        factors = generator.choice([0.5, 1, 2, -1], shape, p=[0.01, 0.97, 0.01, 0.01])
        x = np.asarray(factors, np.float32)
    else:
        x = normal(generator, *shape) + np.float32(0.5)
    symbolic = some_symbolic(generator, shape, range(len(shape)))
    return reduction(name, x, axes, bool(generator.random() < 0.5), symbolic)


def test_random_reductions_agree_with_numpy(seed: int) -> None:
    check_random(random_reduction, seed)


@pytest.mark.workloads_a_seed(20)
def test_random_places_agree_with_numpy(seed: int) -> None:
    check_random(random_place, seed, count=20)


def test_random_reductions_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_reduction, seed=1000, target=avx2, count=8)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float64"])
def test_other_types_are_reduced(dtype: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(-50, 50, (5, 33)).astype(dtype)
    check([reduction(name, x, axes, False) for name in ("sum", "max", "min") for axes in ([1], [0], [0, 1])])


def test_large_maps_are_reduced_in_parallel() -> None:
    generator = np.random.default_rng(0)
    x = normal(generator, 3, 40, 30, 30)
    check([reduction(name, x, [2, 3], True) for name in ("mean", "max")])
    check([reduction("sum", x, [1], False), reduction("sum", x, [0], False)])


def test_one_symbolic_kernel_serves_every_size() -> None:
    generator = np.random.default_rng(0)
    names = ("sum", "max", "mean")
    compiled = CompiledWorkloads(
        [reduction(name, normal(generator, 2, 2), [1], False, ["rows", "columns"]) for name in names]
    )
    for shape in ((1, 1), (3, 15), (1, 16), (5, 17), (2, 1000), (300, 64)):
        x = normal(generator, *shape)
        for number, name in enumerate(names):
            expected = OPERATORS[name][1](x.astype(np.float64), axis=1)
            np.testing.assert_allclose(compiled(number, [x]), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("axes", [[1], [0], [0, 1]])
@pytest.mark.parametrize("shape", [(3, 40), ("n", 40)])
def test_the_largest_of_negative_infinities_is_one(axes: list[int], shape: tuple[int | str, ...]) -> None:
    x = np.full((3, 40), -np.inf, np.float32)
    workloads = [reduction("max", x, axes, False, list(shape)), reduction("min", -x, axes, True, list(shape))]
    compiled = CompiledWorkloads(workloads)
    for number, workload in enumerate(workloads):
        np.testing.assert_array_equal(compiled(number, workload.inputs), workload.expected)

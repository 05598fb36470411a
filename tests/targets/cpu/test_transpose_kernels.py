"""Movement of data that changes the innermost axis, large enough for tiles, against NumPy."""

from __future__ import annotations

import numpy as np
from tvm import relax

from tests.targets.kernel_workloads import CompiledWorkloads, Extent, Target, Workload, normal, some_symbolic

TRANSPOSE = "transpose"
EXTENTS = (4, 5, 8, 15, 16, 17, 24, 33, 48, 64, 65)


def random_permutation(generator: np.random.Generator, rank: int) -> list[int]:
    """One that moves the innermost axis, so that source and result run along different ones."""
    while True:
        axes = [int(axis) for axis in generator.permutation(rank)]
        if axes[-1] != rank - 1:
            return axes


def random_shape(generator: np.random.Generator, rank: int) -> list[int]:
    """At least 2,048 elements; two axes, the innermost one among them, are as long as a tile or longer."""
    while True:
        shape = [int(extent) for extent in generator.choice(EXTENTS if rank < 4 else EXTENTS[:6], rank)]
        if 2048 <= np.prod(shape) <= 1 << 17:
            return shape


def random_transpose(generator: np.random.Generator) -> Workload:
    """Moved axes, with arithmetic behind them or a residual in the result's order."""
    rank = int(generator.integers(2, 6))
    shape, axes = random_shape(generator, rank), random_permutation(generator, rank)
    x = normal(generator, *shape)
    symbolic = some_symbolic(generator, shape, range(rank))
    moved: list[Extent] = [symbolic[axis] for axis in axes]
    y = normal(generator, *(shape[axis] for axis in axes))
    residual = bool(generator.random() < 0.4)

    def operator(data: relax.Expr, other: relax.Expr) -> relax.Expr:
        turned = relax.op.permute_dims(data, axes)
        return relax.op.add(turned, other) if residual else relax.op.multiply(turned, relax.const(0.5))

    expected = x.transpose(axes).astype(np.float64)
    return Workload(
        f"transpose of {symbolic} = {shape} to {axes}, residual: {residual}",
        operator,
        [x, y],
        expected + y if residual else expected * 0.5,
        frozenset({TRANSPOSE}),
        [symbolic, moved],
    )


def check_moved(seed: int, target: Target, count: int) -> None:
    """As ``check_random``, but the template of a movement counts here, too."""
    generator = np.random.default_rng(seed)
    workloads = [random_transpose(generator) for _ in range(count)]
    compiled = CompiledWorkloads(workloads, target)
    for number, workload in enumerate(workloads):
        assert compiled.templates(number) == [TRANSPOSE], workload.description
        result = compiled(number, workload.inputs)
        np.testing.assert_allclose(
            result, workload.expected, rtol=1e-6, atol=1e-6, err_msg=workload.description
        )


def test_random_transposes_agree_with_numpy(seed: int) -> None:
    check_moved(seed, "native", 40)


def test_random_transposes_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_moved(1000, avx2, 8)

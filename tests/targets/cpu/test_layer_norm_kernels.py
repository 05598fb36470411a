"""Layer normalisation and its kin, against NumPy."""

from __future__ import annotations

import numpy as np
from tvm import relax

from tests.targets.kernel_workloads import (
    CompiledWorkloads,
    Extent,
    Workload,
    check,
    check_random,
    normal,
    some_symbolic,
)

REDUCTION = frozenset({"reduction"})
TWO_SUMS = frozenset({"fallback"})
"""TVM's group_norm computes a sum and a sum of squares in one reduction."""


def normalised(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon))


def layer_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    epsilon: float = 1e-5,
    shape: list[Extent] | None = None,
) -> Workload:
    """Over as many trailing axes as ``gamma`` has, with constant parameters."""
    axes = tuple(range(-gamma.ndim, 0))

    def operator(data: relax.Expr) -> relax.Expr:
        return relax.op.nn.layer_norm(
            data, relax.const(gamma), relax.const(beta), axes=list(axes), epsilon=epsilon
        )

    return Workload(
        f"layer_norm of {shape or x.shape} over {axes}",
        operator,
        [x],
        normalised(x, axes, epsilon) * gamma + beta,
        REDUCTION,
        None if shape is None else [shape],
    )


def random_layer_norm(generator: np.random.Generator) -> Workload:
    rank = int(generator.integers(2, 5))
    shape = [int(extent) for extent in generator.choice([2, 3, 7, 15, 16, 17, 31, 32, 48, 100], rank)]
    if rank == 4:
        shape[0] = 1
    shape[-1] = max(7, shape[-1])  # shorter rows may be nearly constant, and then lose digits
    x = normal(generator, *shape) * np.float32(3) + np.float32(2)
    axes = int(generator.choice([1, 1, 1, 2])) if rank > 2 else 1
    gamma, beta = normal(generator, *shape[-axes:]), normal(generator, *shape[-axes:])
    epsilon = float(generator.choice([1e-3, 1e-5, 1e-6]))
    symbolic = some_symbolic(generator, shape, range(rank - axes))
    return layer_norm(x, gamma, beta, epsilon, symbolic)


def random_group_norm(generator: np.random.Generator) -> Workload:
    groups, width = (int(extent) for extent in generator.choice([1, 2, 3, 8], 2))
    x = normal(generator, 2, groups * width, *(int(e) for e in generator.integers(2, 12, 2)))
    gamma, beta = normal(generator, groups * width), normal(generator, groups * width)
    grouped = x.reshape(2, groups, width, *x.shape[2:])
    scale, shift = gamma[:, None, None], beta[:, None, None]
    return Workload(
        f"group_norm of {x.shape} in {groups} groups",
        lambda data: relax.op.nn.group_norm(
            data, relax.const(gamma), relax.const(beta), groups, channel_axis=1, axes=[2, 3]
        ),
        [x],
        normalised(grouped, (2, 3, 4), 1e-5).reshape(x.shape) * scale + shift,
        TWO_SUMS,
    )


def random_norm(generator: np.random.Generator) -> Workload:
    return (random_layer_norm if generator.random() < 0.8 else random_group_norm)(generator)


def test_random_normalisations_agree_with_numpy(seed: int) -> None:
    check_random(random_norm, seed)


def test_random_normalisations_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_norm, seed=1000, target=avx2, count=6)


def test_a_large_mean_does_not_cancel_the_variance() -> None:
    x = normal(np.random.default_rng(0), 3, 50) + np.float32(1000)
    workload = layer_norm(x, np.ones(50, np.float32), np.zeros(50, np.float32), 1e-6)
    actual = CompiledWorkloads([workload])(0, [x])
    # The mean itself is known to about 1e-4; E[x^2] - E[x]^2 would be wrong by 0.1.
    np.testing.assert_allclose(actual, workload.expected, atol=1e-3)


def test_a_residual_before_and_an_activation_behind_are_part_of_it() -> None:
    generator = np.random.default_rng(0)
    x, gamma, beta = (normal(generator, *shape) for shape in ((3, 7, 50), (50,), (50,)))

    def operator(data: relax.Expr) -> relax.Expr:
        doubled = relax.op.add(data, data)
        norm = relax.op.nn.layer_norm(doubled, relax.const(gamma), relax.const(beta), axes=[-1])
        return relax.op.nn.relu(norm)

    expected = np.maximum(normalised(2 * x, (-1,), 1e-5) * gamma + beta, 0)
    symbolic: list[list[Extent]] = [["batch", "tokens", 50]]
    check([Workload("relu(norm(x + x))", operator, [x], expected, REDUCTION, s) for s in (None, symbolic)])

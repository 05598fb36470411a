"""Softmax and its logarithm, against NumPy."""

from __future__ import annotations

import numpy as np
from tvm import relax

from tests.targets.kernel_workloads import Extent, Workload, check, check_random, normal, some_symbolic

REDUCTION = frozenset({"reduction"})


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    shifted = x.astype(np.float64) - x.max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def softmax(x: np.ndarray, axis: int, log: bool, shape: list[Extent] | None = None) -> Workload:
    expected = log_softmax(x, axis)
    operator = relax.op.nn.log_softmax if log else relax.op.nn.softmax
    return Workload(
        f"{'log_softmax' if log else 'softmax'} of {shape or x.shape} over {axis}",
        lambda data: operator(data, axis),
        [x],
        expected if log else np.exp(expected),
        REDUCTION,
        None if shape is None else [shape],
    )


def random_softmax(generator: np.random.Generator) -> Workload:
    rank = int(generator.integers(1, 5))
    shape = [int(extent) for extent in generator.choice([1, 2, 5, 15, 16, 17, 33, 64], rank)]
    if rank == 4:
        shape[0] = 1
    axis = -1 if generator.random() < 0.6 else int(generator.integers(-rank, rank))
    x = normal(generator, *shape) * np.float32(generator.choice([1, 32]))
    log = bool(generator.random() < 0.3)
    return softmax(x, axis, log, some_symbolic(generator, shape, range(rank)))


def test_random_softmaxes_agree_with_numpy(seed: int) -> None:
    check_random(random_softmax, seed)


def test_random_softmaxes_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_softmax, seed=1000, target=avx2, count=8)


def test_large_values_do_not_overflow() -> None:
    x = np.array([[1e30, 1e30, -1e30], [3e38, 0, -3e38], [88, 89, 90]], np.float32)
    check([softmax(x, -1, log=False)])


def test_columns_that_lie_side_by_side() -> None:
    """As detectors' box distributions: many columns, of a number with few divisors, shared by threads."""
    x = normal(np.random.default_rng(0), 1, 16, 4, 2099)
    shapes: list[list[Extent] | None] = [None, [1, 16, "sides", "boxes"], ["n", "bins", 4, 2099]]
    check([softmax(x, 1, log=False, shape=shape) for shape in shapes])


def test_masked_elements_get_nothing() -> None:
    x = np.where(np.arange(40) % 3 == 0, np.float32(-np.inf), normal(np.random.default_rng(0), 4, 40))
    check([softmax(x, -1, log=False), softmax(x, -1, log=False, shape=["rows", "columns"])])


def test_vectors_and_other_types_are_computed_by_tvms_definition() -> None:
    generator = np.random.default_rng(0)
    wide = generator.standard_normal((3, 50))
    check(
        [
            softmax(normal(generator, 50), 0, log=False),
            softmax(wide, -1, log=False),
            softmax(wide, 0, log=True),
        ]
    )

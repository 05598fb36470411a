"""Matrix products, with packed constants and without, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from tests.targets.kernel_workloads import Draw, Extent, Workload, check, check_random, normal, some_symbolic

PACKED = frozenset({"matmul"})
TVM_MATMUL = frozenset({"reduction"})
"""What is no product of two matrices."""

Epilogue = tuple[str, Callable[[relax.Expr], relax.Expr], Callable[[np.ndarray], np.ndarray]]
NOTHING: Epilogue = ("nothing", lambda y: y, lambda y: y)


def random_epilogue(generator: np.random.Generator, columns: int) -> Epilogue:
    bias = normal(generator, columns)
    choices: tuple[Epilogue, ...] = (
        NOTHING,
        ("bias", lambda y: relax.op.add(y, relax.const(bias)), lambda y: y + bias),
        (
            "bias and relu",
            lambda y: relax.op.nn.relu(relax.op.add(y, relax.const(bias))),
            lambda y: np.maximum(y + bias, 0),
        ),
        (
            "silu",
            lambda y: relax.op.multiply(y, relax.op.sigmoid(y)),
            lambda y: y / (1 + np.exp(-y)),
        ),
        ("softmax", lambda y: relax.op.nn.softmax(y), softmax),
    )
    return choices[int(generator.integers(len(choices)))]


def softmax(x: np.ndarray) -> np.ndarray:
    exp = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(exp / exp.sum(-1, keepdims=True))


def by_constant(
    x: np.ndarray, weight: np.ndarray, epilogue: Epilogue, shape: list[Extent] | None = None
) -> Workload:
    name, relax_epilogue, numpy_epilogue = epilogue
    product = x.astype(np.float64) @ weight.astype(np.float64)
    return Workload(
        f"{shape or x.shape} @ constant {weight.shape}, then {name}",
        lambda data: relax_epilogue(relax.op.matmul(data, relax.const(weight))),
        [x],
        numpy_epilogue(product),
        PACKED | ({"reduction"} if name == "softmax" else set()),
        None if shape is None else [shape],
    )


def weights(generator: np.random.Generator, K: int, N: int) -> np.ndarray:
    return np.asarray(normal(generator, K, N) / np.sqrt(K), np.float32)


def random_by_constant(generator: np.random.Generator) -> Workload:
    M = int(generator.choice([1, 2, 3, 7, 13, 16, 24, 31, 64, 100]))
    K = int(generator.choice([1, 2, 5, 16, 33, 63, 64, 65, 200]))
    N = int(generator.choice([1, 3, 8, 15, 16, 17, 32, 50, 64, 100]))
    batch = [int(extent) for extent in generator.integers(1, 6, generator.choice([0, 0, 1, 2]))]
    x = normal(generator, *batch, M, K)
    shape = some_symbolic(generator, x.shape, range(len(batch) + 1))
    return by_constant(x, weights(generator, K, N), random_epilogue(generator, N), shape)


def random_skinny(generator: np.random.Generator) -> Workload:
    """One row or a few, with weights of which the reduction is cut into blocks of the caches."""
    M = int(generator.choice([1, 1, 2, 3, 4, 6]))
    K, N = (int(extent) for extent in generator.choice([64, 257, 512, 1000, 1536, 2048], 2))
    x = normal(generator, M, K)
    shape = some_symbolic(generator, x.shape, [0])
    return by_constant(x, weights(generator, K, N), random_epilogue(generator, N), shape)


def random_by_variable(generator: np.random.Generator) -> Workload:
    """Both operands are known at run time only."""
    M, K, N = (int(extent) for extent in generator.choice([1, 2, 5, 16, 17, 33, 64], 3))
    batch = [int(extent) for extent in generator.integers(1, 5, generator.choice([0, 1, 2]))]
    x, y = normal(generator, *batch, M, K), weights(generator, K, N)
    y = np.broadcast_to(y, (*batch, K, N)).copy() if generator.random() < 0.5 else y
    left = some_symbolic(generator, x.shape, [x.ndim - 2, x.ndim - 1])
    right: list[Extent] = [*y.shape[:-2], left[-1], N]
    return Workload(
        f"{left} @ {right}",
        relax.op.matmul,
        [x, y],
        x.astype(np.float64) @ y,
        PACKED,
        [left, right],
    )


def random_scores(generator: np.random.Generator) -> Workload:
    """Queries times keys, as in attention: heads are split from [batch, tokens, heads * width] before."""
    batch, tokens, heads, width = (int(extent) for extent in generator.choice([1, 2, 5, 16, 17], 4))
    q, k = (normal(generator, batch, tokens, heads, width) for _ in range(2))
    symbolic = some_symbolic(generator, q.shape, [0, 1])
    return Workload(
        f"scores of {symbolic}",
        lambda a, b: relax.op.matmul(
            relax.op.permute_dims(a, [0, 2, 1, 3]), relax.op.permute_dims(b, [0, 2, 3, 1])
        ),
        [q, k],
        np.einsum("bthc,bshc->bhts", q.astype(np.float64), k),
        PACKED,
        [symbolic, symbolic],
    )


def random_mixture(generator: np.random.Generator) -> Workload:
    """Probabilities times values, as in attention, with the heads joined again behind."""
    batch, tokens, heads, width = (int(extent) for extent in generator.choice([1, 2, 5, 16, 17], 4))
    p, v = normal(generator, batch, heads, tokens, tokens), normal(generator, batch, tokens, heads, width)
    values = some_symbolic(generator, v.shape, [0, 1])
    return Workload(
        f"mixture of {values}",
        lambda a, b: relax.op.permute_dims(
            relax.op.matmul(a, relax.op.permute_dims(b, [0, 2, 1, 3])), [0, 2, 1, 3]
        ),
        [p, v],
        np.einsum("bhts,bshc->bthc", p.astype(np.float64), v),
        PACKED,
        [[values[0], heads, values[1], values[1]], values],
    )


FAMILIES = (random_by_constant, random_skinny, random_by_variable, random_scores, random_mixture)


def random_product(generator: np.random.Generator) -> Workload:
    return FAMILIES[int(generator.integers(len(FAMILIES)))](generator)


@pytest.mark.workloads_a_seed(10)
@pytest.mark.parametrize("draw", FAMILIES)
def test_random_products_agree_with_numpy(draw: Draw, seed: int) -> None:
    check_random(draw, seed, count=10)


def test_random_products_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_product, seed=1000, target=avx2, count=8)


def test_vectors_times_matrices() -> None:
    generator = np.random.default_rng(0)
    vector, matrix = normal(generator, 37), weights(generator, 37, 19)
    row = by_constant(vector[None], matrix, NOTHING)
    no_matrix = Workload(
        "a vector, not a matrix of one row",
        lambda data: relax.op.matmul(data, relax.const(matrix)),
        [vector],
        vector.astype(np.float64) @ matrix,
        TVM_MATMUL,
    )
    check([row, no_matrix])


def test_many_small_matrices_are_multiplied_as_one() -> None:
    generator = np.random.default_rng(0)
    x, matrix = normal(generator, 5, 3, 4, 20), weights(generator, 20, 24)
    bias = normal(generator, 24)
    epilogue: Epilogue = ("bias", lambda y: relax.op.add(y, relax.const(bias)), lambda y: y + bias)
    check([by_constant(x, matrix, epilogue)])


def test_a_residual_is_added_in_the_epilogue() -> None:
    generator = np.random.default_rng(0)
    x, matrix = normal(generator, 2, 29, 48), weights(generator, 48, 48)
    shapes: list[list[list[Extent]] | None] = [None, [["batch", "rows", 48]]]
    check(
        [
            Workload(
                "x @ W + x",
                lambda data: relax.op.add(relax.op.matmul(data, relax.const(matrix)), data),
                [x],
                x.astype(np.float64) @ matrix + x,
                PACKED,
                shape,
            )
            for shape in shapes
        ]
    )


def test_matrices_by_the_same_weights_share_tiles_on_avx2(avx2: str) -> None:
    generator = np.random.default_rng(0)
    matrix, columns = weights(generator, 24, 16), normal(generator, 7, 16)

    def add_to_rows(y: relax.Expr) -> relax.Expr:
        return relax.op.nn.relu(relax.op.add(y, relax.const(columns)))

    of_the_row: Epilogue = ("a term for each row", add_to_rows, lambda y: np.maximum(y + columns, 0))
    inputs = [normal(generator, *batch, 7, 24) for batch in ((5,), (2, 7), (1, 3, 2))]
    cases = [by_constant(x, matrix, epilogue) for x in inputs for epilogue in (NOTHING, of_the_row)]
    partial = by_constant(inputs[0], weights(generator, 24, 20), NOTHING)
    check([*cases, partial], avx2)


def test_weights_get_a_panel_that_nobody_reads_on_avx2(avx2: str) -> None:
    generator = np.random.default_rng(0)
    x, matrix = normal(generator, 13, 24), weights(generator, 24, 17 * 8 - 3)
    check([by_constant(x, matrix, NOTHING)], avx2)

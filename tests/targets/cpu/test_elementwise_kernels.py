"""Element-wise arithmetic and movement of data, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from tests.targets.kernel_workloads import Draw, Extent, Workload, check, check_random, normal, some_symbolic

ELEMENTWISE = frozenset({"elementwise"})

Unary = tuple[Callable[[relax.Expr], relax.Expr], Callable[[np.ndarray], np.ndarray]]
Binary = tuple[Callable[[relax.Expr, relax.Expr], relax.Expr], Callable[[np.ndarray, np.ndarray], np.ndarray]]

UNARY: tuple[Unary, ...] = (
    (relax.op.exp, np.exp),
    (relax.op.tanh, np.tanh),
    (relax.op.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    (relax.op.nn.relu, lambda x: np.maximum(x, 0)),
    (relax.op.abs, np.abs),
    (relax.op.negative, np.negative),
    (relax.op.square, np.square),
    (relax.op.floor, np.floor),
    (lambda x: relax.op.sqrt(relax.op.abs(x)), lambda x: np.sqrt(np.abs(x))),
    (lambda x: relax.op.log(relax.op.exp(x)), lambda x: x),
    (lambda x: relax.op.clip(x, -0.5, 0.5), lambda x: np.clip(x, -0.5, 0.5)),
    (lambda x: relax.op.nn.leakyrelu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
)
BINARY: tuple[Binary, ...] = (
    (relax.op.add, np.add),
    (relax.op.subtract, np.subtract),
    (relax.op.multiply, np.multiply),
    (relax.op.maximum, np.maximum),
    (relax.op.minimum, np.minimum),
    (
        lambda x, y: relax.op.divide(x, relax.op.add(relax.op.abs(y), relax.const(1.0))),
        lambda x, y: x / (abs(y) + 1),
    ),
    (lambda x, y: relax.op.where(relax.op.greater(x, y), x, y), np.maximum),
)


def random_shape(generator: np.random.Generator) -> list[int]:
    rank = int(generator.integers(1, 6))
    extents = [1, 2, 3, 5, 15, 16, 17, 64] if rank < 4 else [1, 2, 3, 16, 5]
    return [int(extent) for extent in generator.choice(extents, rank)]


def random_chain(generator: np.random.Generator) -> Workload:
    """A few unary operators, one of two operands that broadcast, and another."""
    shape = random_shape(generator)
    other = [
        1 if generator.random() < 0.3 else extent for extent in shape[int(generator.integers(len(shape))) :]
    ]
    x, y = normal(generator, *shape), normal(generator, *other)
    first, last = (UNARY[int(i)] for i in generator.integers(len(UNARY), size=2))
    combine = BINARY[int(generator.integers(len(BINARY)))]
    left = some_symbolic(generator, shape, range(len(shape)))
    offset = len(shape) - len(other)
    right: list[Extent] = [1 if extent == 1 else left[offset + axis] for axis, extent in enumerate(other)]
    inner = first[1](x.astype(np.float64))
    return Workload(
        f"{last[1].__name__}({combine[1].__name__}({first[1].__name__}({left}), {right}))",
        lambda a, b: last[0](combine[0](first[0](a), b)),
        [x, y],
        np.asarray(last[1](combine[1](inner, y.astype(np.float64)))),
        ELEMENTWISE,
        [left, right],
    )


def random_transpose(generator: np.random.Generator) -> Workload:
    shape = random_shape(generator)
    x = normal(generator, *shape)
    axes = [int(axis) for axis in generator.permutation(len(shape))]
    symbolic = some_symbolic(generator, shape, range(len(shape)))
    return Workload(
        f"transpose of {symbolic} to {axes}, and one",
        lambda data: relax.op.add(relax.op.permute_dims(data, axes), relax.const(1.0)),
        [x],
        x.transpose(axes).astype(np.float64) + 1,
        ELEMENTWISE,
        [symbolic],
    )


def random_concatenation(generator: np.random.Generator) -> Workload:
    shape = random_shape(generator)
    axis = int(generator.integers(len(shape)))
    extents = generator.integers(1, 20, int(generator.integers(2, 4)))
    parts = [normal(generator, *shape[:axis], int(extent), *shape[axis + 1 :]) for extent in extents]
    symbolic = some_symbolic(generator, shape, range(len(shape)))
    shapes = [[*symbolic[:axis], part.shape[axis], *symbolic[axis + 1 :]] for part in parts]
    return Workload(
        f"concatenation of {shapes} along {axis}",
        lambda *data: relax.op.nn.relu(relax.op.concat(data, axis)),
        parts,
        np.maximum(np.concatenate(parts, axis), 0).astype(np.float64),
        ELEMENTWISE,
        shapes,
    )


def random_slice(generator: np.random.Generator) -> Workload:
    shape = random_shape(generator)
    axis = int(generator.integers(len(shape)))
    begin, step = int(generator.integers(shape[axis])), int(generator.integers(1, 4))
    x = normal(generator, *shape)
    index = (*(slice(None) for _ in range(axis)), slice(begin, None, step))
    symbolic = some_symbolic(generator, shape, [a for a in range(len(shape)) if a != axis])
    return Workload(
        f"{symbolic} from {begin} in steps of {step} along {axis}, negated",
        lambda data: relax.op.negative(relax.op.strided_slice(data, [axis], [begin], [shape[axis]], [step])),
        [x],
        -x[index].astype(np.float64),
        ELEMENTWISE,
        [symbolic],
    )


def random_gathering(generator: np.random.Generator) -> Workload:
    table = normal(generator, *random_shape(generator)[:3])
    axis = int(generator.integers(table.ndim))
    indices = generator.integers(
        0, table.shape[axis], generator.integers(1, 8, int(generator.integers(1, 3)))
    )
    places = some_symbolic(generator, indices.shape, range(indices.ndim))
    return Workload(
        f"rows {places} of {table.shape} along {axis}",
        lambda data, chosen: relax.op.negative(relax.op.take(data, chosen, axis=axis)),
        [table, indices],
        -np.take(table, indices, axis).astype(np.float64),
        ELEMENTWISE,
        [list(table.shape), places],
    )


FAMILIES = (random_chain, random_transpose, random_concatenation, random_slice, random_gathering)


def random_elementwise(generator: np.random.Generator) -> Workload:
    return FAMILIES[int(generator.integers(len(FAMILIES)))](generator)


@pytest.mark.workloads_a_seed(10)
@pytest.mark.parametrize("draw", FAMILIES)
def test_random_elementwise_kernels_agree_with_numpy(draw: Draw, seed: int) -> None:
    check_random(draw, seed, count=10)


def test_random_elementwise_kernels_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_elementwise, seed=1000, target=avx2, count=10)


def test_maps_large_enough_for_several_threads() -> None:
    generator = np.random.default_rng(0)
    x = normal(generator, 3, 50, 20, 16)
    shapes: list[list[list[Extent]] | None] = [None, [["n", 50, "h", "w"]], [["n", "c", "h", 16]]]
    check(
        [
            Workload(
                "transposed",
                lambda d: relax.op.permute_dims(d, [0, 2, 3, 1]),
                [x],
                x.transpose(0, 2, 3, 1),
                ELEMENTWISE,
                shape,
            )
            for shape in shapes
        ]
        + [Workload("negated", relax.op.negative, [x], -x, ELEMENTWISE, shape) for shape in shapes]
    )


def test_odd_parts_are_joined_and_split_again() -> None:
    """One kernel, whose innermost loop falls into the parts: heads of detectors join their levels so."""
    generator = np.random.default_rng(0)
    parts = [normal(generator, 2, 30, width) for width in (1600, 401, 98)]
    whole = np.concatenate(parts, 2)

    def halves(*data: relax.Expr) -> relax.Expr:
        joined = relax.op.concat(data, 2)
        pieces = relax.op.split(joined, [11], 1)
        first = relax.op.sum(pieces[0], [0, 1])
        return relax.op.add(first, relax.op.sum(pieces[1], [0, 1]))

    def padded(data: relax.Expr) -> relax.Expr:
        return relax.op.nn.pad(data, [0, 0, 0, 0, 3, 70])

    edges = np.pad(parts[0], [(0, 0), (0, 0), (3, 70)])
    check(
        [
            Workload("joined", lambda *d: relax.op.concat(d, 2), parts, whole, ELEMENTWISE),
            Workload("padded", padded, parts[:1], edges, ELEMENTWISE),
            Workload("split", halves, parts, whole.sum((0, 1), np.float64), ELEMENTWISE | {"reduction"}),
        ]
    )


def test_types_are_converted() -> None:
    x = np.array([-2.5, -1.0, 0.0, 0.5, 127.9, 1e6], np.float32)
    integers = np.arange(-3, 30, dtype=np.int64)
    check(
        [
            Workload("to int32", lambda d: relax.op.astype(d, "int32"), [x], x.astype(np.int32), ELEMENTWISE),
            Workload("to bool", lambda d: relax.op.astype(d, "bool"), [x], x.astype(bool), ELEMENTWISE),
            Workload(
                "from int64", lambda d: relax.op.astype(d, "float32"), [integers], integers * 1.0, ELEMENTWISE
            ),
            Workload(
                "to float16",
                lambda d: relax.op.astype(d, "float16"),
                [x[:5]],
                x[:5].astype(np.float16),
                ELEMENTWISE,
            ),
        ]
    )


def test_clipping_keeps_nan() -> None:
    x = np.array([np.nan, -np.inf, np.inf, 0.25], np.float32)
    expected = np.array([np.nan, -1.0, 1.0, 0.25])
    check([Workload("clip", lambda d: relax.op.clip(d, -1.0, 1.0), [x], expected, ELEMENTWISE)])


def test_elements_are_gathered() -> None:
    generator = np.random.default_rng(0)
    table, rows = normal(generator, 11, 33), generator.integers(0, 11, (2, 5))
    shapes: list[list[Extent]] = [[11, 33], ["batch", "tokens"]]

    def operator(data: relax.Expr, indices: relax.Expr) -> relax.Expr:
        return relax.op.take(data, indices, axis=0)

    check([Workload("take", operator, [table, rows], table[rows], ELEMENTWISE, s) for s in (None, shapes)])

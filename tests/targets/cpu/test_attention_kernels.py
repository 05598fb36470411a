"""Fused attention against NumPy: layouts of heads, masks, scales, awkward and symbolic extents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from tvm import relax

from tests.targets.kernel_workloads import (
    Extent,
    Target,
    Workload,
    check,
    check_random,
    normal,
    some_symbolic,
)

ATTENTION = frozenset({"attention"})

Mask = tuple[str, Callable[[relax.Expr], relax.Expr], Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Sizes:
    """Extents of attention: batch, heads, queries, keys, length of a key, length of a value."""

    B: int
    H: int
    M: int
    N: int
    D: int
    E: int


def reference(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """q, k [B, H, M or N, D], v [B, H, N, E]; returns [B, H, M, E]."""
    scores = mask(np.einsum("bhmd,bhnd->bhmn", q.astype(np.float64), k))
    exp = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(np.einsum("bhmn,bhne->bhme", exp / exp.sum(-1, keepdims=True), v))


def coarse(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers that bfloat16 holds exactly."""
    return normal(generator, *shape).astype(ml_dtypes.bfloat16).astype(np.float32)


def random_mask(generator: np.random.Generator, s: Sizes) -> Mask:
    keys = np.where(np.arange(s.N) <= generator.integers(0, s.N, (s.B, 1, 1, 1)), 0, np.finfo(np.float32).min)
    bias = normal(generator, s.M, s.N)
    causal = np.arange(s.M)[:, None] >= np.arange(s.N)
    factor = np.float32(0.3)
    choices: tuple[Mask, ...] = (
        ("nothing", lambda x: x, lambda x: x),
        ("hidden keys", lambda x: relax.op.add(x, relax.const(keys.astype(np.float32))), lambda x: x + keys),
        (
            "scale and bias",
            lambda x: relax.op.add(relax.const(bias), relax.op.multiply(x, relax.const(factor))),
            lambda x: x * factor + bias,
        ),
        (
            "divisor and causal condition",
            lambda x: relax.op.where(
                relax.const(causal), relax.op.divide(x, relax.const(np.float32(3))), relax.const(-np.inf)
            ),
            lambda x: np.where(causal, x / 3, -np.inf),
        ),
        (
            "inverted condition and bias",
            lambda x: relax.op.where(
                relax.const(~causal), relax.const(-1e9, "float32"), relax.op.add(x, relax.const(bias))
            ),
            lambda x: np.where(causal, x + bias, -1e9),
        ),
    )
    return choices[int(generator.integers(len(choices)))]


def by_heads(s: Sizes, mask: Mask, shapes: list[list[Extent]] | None, seed: int) -> Workload:
    """Heads behind the sequence, [B, M, H, D], as linear layers give them."""
    name, relax_mask, numpy_mask = mask
    generator = np.random.default_rng(seed)
    q, k, v = (coarse(generator, s.B, rows, s.H, w) for rows, w in ((s.M, s.D), (s.N, s.D), (s.N, s.E)))

    def operator(query: relax.Expr, key: relax.Expr, value: relax.Expr) -> relax.Expr:
        query = relax.op.multiply(relax.op.permute_dims(query, [0, 2, 1, 3]), relax.const(np.float32(0.5)))
        scores = relax_mask(relax.op.matmul(query, relax.op.permute_dims(key, [0, 2, 3, 1])))
        weights = relax.op.nn.softmax(scores, -1)
        return relax.op.permute_dims(
            relax.op.matmul(weights, relax.op.permute_dims(value, [0, 2, 1, 3])), [0, 2, 1, 3]
        )

    query, key, value = (x.transpose(0, 2, 1, 3) for x in (q * np.float32(0.5), k, v))
    return Workload(
        f"attention of {s}, {shapes}, with {name}",
        operator,
        [q, k, v],
        reference(query, key, value, numpy_mask).transpose(0, 2, 1, 3),
        ATTENTION,
        shapes,
    )


def in_one_tensor(s: Sizes, mask: Mask, seed: int) -> Workload:
    """Queries, keys and values side by side, [B, M, 3, H, D], cut after a transpose."""
    name, relax_mask, numpy_mask = mask
    x = coarse(np.random.default_rng(seed), s.B, s.M, 3, s.H, s.D)

    def operator(data: relax.Expr) -> relax.Expr:
        moved = relax.op.permute_dims(data, [2, 0, 3, 1, 4])
        parts = [
            relax.op.reshape(relax.op.strided_slice(moved, [0], [i], [i + 1]), (s.B, s.H, s.M, s.D))
            for i in range(3)
        ]
        scores = relax_mask(relax.op.matmul(parts[0], relax.op.permute_dims(parts[1], [0, 1, 3, 2])))
        flat = relax.op.reshape(scores, (s.B * s.H * s.M, s.M))
        weights = relax.op.reshape(relax.op.nn.softmax(flat), (s.B, s.H, s.M, s.M))
        return relax.op.matmul(weights, parts[2])

    q, k, v = x.transpose(2, 0, 3, 1, 4)
    return Workload(
        f"self-attention of {s} in one tensor, with {name}",
        operator,
        [x],
        reference(q, k, v, numpy_mask),
        ATTENTION,
    )


def random_attention(generator: np.random.Generator) -> Workload:
    B, H = (int(extent) for extent in generator.integers(1, 4, 2))
    M = int(generator.choice([8, 9, 15, 16, 17, 31, 33, 50, 64, 100]))
    N = int(generator.choice([1, 2, 7, 15, 16, 17, 33, 70]))
    D, E = (int(extent) for extent in generator.choice([1, 5, 8, 15, 16, 24, 32, 40, 64], 2))
    seed = int(generator.integers(1 << 30))
    if generator.random() < 0.3:
        s = Sizes(B, H, M, M, D, D)
        return in_one_tensor(s, random_mask(generator, s), seed)
    s = Sizes(B, H, M, N, D, E)
    if generator.random() < 0.5:
        return by_heads(s, random_mask(generator, s), None, seed)
    query = some_symbolic(generator, [B, M, H, D], [0, 1])
    memory: Extent = "keys" if generator.random() < 0.5 else N
    shapes = [query, [query[0], memory, H, D], [query[0], memory, H, E]]
    return by_heads(s, ("nothing", lambda x: x, lambda x: x), shapes, seed)


def test_random_attention_agrees_with_numpy(seed: int) -> None:
    check_random(random_attention, seed)


def test_random_attention_agrees_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_attention, seed=1000, target=avx2, count=8)


@pytest.mark.workloads_a_seed(20)
def test_random_attention_in_bfloat16_agrees_with_numpy(seed: int, without_tiles: Target) -> None:
    check_random(random_attention, 2000 + seed, without_tiles, count=20, tolerance=0.02, dtype="bfloat16")


def test_random_attention_in_float16_agrees_with_numpy(seed: int) -> None:
    check_random(random_attention, 4000 + seed, count=10, tolerance=0.003, dtype="float16")


def test_random_attention_in_bfloat16_agrees_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_attention, 3000, avx2, count=8, tolerance=0.02, dtype="bfloat16")


def test_large_scores_do_not_overflow() -> None:
    huge: Mask = (
        "a large scale",
        lambda x: relax.op.multiply(x, relax.const(1e4, "float32")),
        lambda x: x * 1e4,
    )
    check([by_heads(Sizes(1, 1, 16, 20, 4, 16), huge, None, seed=0)])


def test_queries_without_any_key_get_nan_as_softmax_gives_it() -> None:
    hidden = np.zeros((16, 20), np.float32)
    hidden[3] = -np.inf
    mask: Mask = ("a hidden row", lambda x: relax.op.add(x, relax.const(hidden)), lambda x: x + hidden)
    with np.errstate(invalid="ignore"):
        check([by_heads(Sizes(1, 2, 16, 20, 4, 16), mask, None, seed=0)])

"""TfIdfVectorizer on numbers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.ir import Expr

from ....runtime.errors import UnsupportedOperatorError
from ..extents import as_expression
from ..loops import loop, loop_kernel, when
from ..node import Node
from ..registry import converts


@dataclass(frozen=True)
class _Pool:
    """The n-grams of one length.

    Attributes:
        grams: [count, length].
        columns: where each is counted.
    """

    grams: np.ndarray[Any, np.dtype[np.int64]]
    columns: np.ndarray[Any, np.dtype[np.int64]]


def _pools(node: Node) -> list[_Pool]:
    items, starts = node.integers("pool_int64s"), [*node.integers("ngram_counts"), None]
    columns = node.integers("ngram_indexes")
    pools, used = [], 0
    for length, (start, end) in enumerate(itertools.pairwise(starts), 1):
        grams = np.array(items[start:end], np.int64).reshape(-1, length)
        pools.append(_Pool(grams, np.array(columns[used : used + len(grams)], np.int64)))
        used += len(grams)
    wanted = range(node.integer("min_gram_length"), node.integer("max_gram_length") + 1)
    return [pool for length, pool in enumerate(pools, 1) if length in wanted and len(pool.grams)]


@converts("TfIdfVectorizer")
def tf_idf_vectorizer(node: Node) -> Expr:
    """How often each n-gram occurs, with up to max_skip_count entries left out between its own."""
    if not node.has_attribute("pool_int64s"):
        raise UnsupportedOperatorError(f"{node.label}: strings are not supported")
    shape = node.shape(0)
    rows, length = (shape[0], shape[1]) if len(shape) == 2 else (1, shape[0])
    columns = max(node.integers("ngram_indexes")) + 1
    data = node.builder.reshape(node.builder.cast(node.tensor(0), "int64"), [rows, length])
    pools, skips = _pools(node), node.integer("max_skip_count")
    constants = [node.builder.constant(a) for pool in pools for a in (pool.grams, pool.columns)]

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        x, counts, match = inputs[0], outputs[0], outputs[1]
        with loop(rows) as row:
            with loop(columns) as column:
                counts[row, column] = tirx.const(0, "float32")
            for place, pool in enumerate(pools):
                grams, targets = inputs[1 + 2 * place : 3 + 2 * place]
                size = pool.grams.shape[1]
                # Single entries have nothing between them to leave out.
                with loop(skips + 1 if size > 1 else 1) as skip, loop(length) as start:
                    last = start + (skip + 1) * (size - 1)
                    with when(last < as_expression(length)), loop(len(pool.grams)) as gram:
                        match[0] = tirx.IntImm("int64", 1)
                        with loop(size) as part:
                            same = x[row, start + part * (skip + 1)] == grams[gram, part]
                            match[0] = tirx.Select(same, match[0], tirx.IntImm("int64", 0))
                        with when(match[0] != 0):
                            target = targets[gram]
                            counts[row, target] = counts[row, target] + tirx.const(1, "float32")

    types = [((rows, columns), "float32"), ((1,), "int64")]
    counts = loop_kernel(node.builder, [data, *constants], types, statements, "count_ngrams")[0]
    result = _weighted(node, counts, columns)
    return result if len(shape) == 2 else node.builder.reshape(result, [columns])


def _weighted(node: Node, counts: Expr, columns: int) -> Expr:
    mode = node.text("mode")
    if mode in ("IDF", "TFIDF"):
        weights = np.ones(columns, np.float32)
        if node.has_attribute("weights"):
            weights[list(node.integers("ngram_indexes"))] = node.numbers("weights")
        if mode == "IDF":
            counts = node.emit(relax.op.minimum(counts, node.builder.constant(1.0, "float32")))
        return node.emit(relax.op.multiply(counts, node.builder.constant(weights)))
    return counts

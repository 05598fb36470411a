"""Einstein sums of two operands that are products of matrices, or of batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import relax
from tvm.ir import Expr

from ..extents import Extent
from ..graph_builder import GraphBuilder
from .matmul import product


@dataclass(frozen=True)
class MatrixContraction:
    """The letters of an equation by what they are to a product of matrices.

    Attributes:
        terms: the letters of both operands.
        result: those of the result.
        batch: in both operands and in the result.
        rows: in the first operand and in the result.
        columns: in the second operand and in the result.
        summed: in both operands only.
    """

    terms: tuple[str, str]
    result: str
    batch: str
    rows: str
    columns: str
    summed: str

    def compute(self, builder: GraphBuilder, left: Expr, right: Expr, extents: dict[str, Extent]) -> Expr:
        """The contraction of floating-point tensors; ``extents`` are those of the letters."""
        rows = [extents[letter] for letter in self.rows]
        columns = [extents[letter] for letter in self.columns]
        summed = builder.extents.product(extents[letter] for letter in self.summed)
        # Without a batch the rows need not become one axis: a product takes any number before the last.
        merged = [builder.extents.product(rows)] if self.batch else rows
        left, right = (
            _permuted(builder, operand, term, order)
            for operand, term, order in zip(
                (left, right),
                self.terms,
                (self.batch + self.rows + self.summed, self.batch + self.summed + self.columns),
                strict=True,
            )
        )
        batches = [list(builder.shape(operand))[: len(self.batch)] for operand in (left, right)]
        left = builder.reshape(left, [*batches[0], *merged, summed])
        right = builder.reshape(right, [*batches[1], summed, builder.extents.product(columns)])
        multiplied = builder.bound(product(builder, left, right))
        common = [extents[letter] for letter in self.batch]
        whole = builder.reshape(multiplied, [*common, *rows, *columns])
        return _permuted(builder, whole, self.batch + self.rows + self.columns, self.result)


def matrix_contraction(terms: Sequence[str], result: str) -> MatrixContraction | None:
    """The contraction of ``terms`` to ``result``; None where it is no product of two matrices."""
    if len(terms) != 2 or any(len(set(letters)) < len(letters) for letters in (*terms, result)):
        return None
    left, right = terms
    both = [letter for letter in left if letter in right]
    batch = "".join(letter for letter in both if letter in result)
    summed = "".join(letter for letter in both if letter not in result)
    rows, columns = ("".join(a for a in x if a not in y) for x, y in ((left, right), (right, left)))
    if not (rows and columns and summed) or not set(rows + columns) <= set(result):
        return None
    return MatrixContraction((left, right), result, batch, rows, columns, summed)


def _permuted(builder: GraphBuilder, tensor: Expr, axes: str, order: str) -> Expr:
    """``tensor``, whose axes have the letters ``axes``, with its axes in ``order``."""
    if axes == order:
        return tensor
    return builder.emit(relax.op.permute_dims(tensor, [axes.index(letter) for letter in order]))

"""Sums over products with named axes."""

from __future__ import annotations

import string
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node
from ..precision import widened
from ..registry import converts
from ..tabulate import tabulate
from .matrix_contraction import MatrixContraction, matrix_contraction


@converts("Einsum")
def einsum(node: Node) -> Expr:
    equation = node.text("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    ranks = [node.rank(index) for index in range(len(node.inputs))]
    terms, ellipsis = _with_ellipsis(left.split(","), ranks)
    result = right.replace("...", ellipsis) if arrow else _implicit_result(terms, ellipsis)
    extents = _extents(node, terms)
    contraction = matrix_contraction(terms, result)
    if contraction is not None and _is_product(node, terms, contraction):
        return contraction.compute(node.builder, node.tensor(0), node.tensor(1), extents)
    summed = [axis for axis in extents if axis not in result]

    def compute(*operands: te.Tensor) -> te.Tensor:
        axes = {
            axis: te.reduce_axis((0, as_expression(extents[axis])), name=f"sum_{axis}") for axis in summed
        }

        def element(*index: Any) -> Expr:
            place = {**dict(zip(result, index, strict=True)), **axes}
            total = None
            for operand, term in zip(operands, terms, strict=True):
                factor = operand(*(_at(place[a], e) for a, e in zip(term, operand.shape, strict=True)))
                total = factor if total is None else total * factor
            return te.sum(total, axis=list(axes.values())) if axes else total

        return tabulate([extents[axis] for axis in result], element, name="einsum")

    return widened(node.builder, lambda *x: node.te(compute, *x, name="einsum"), *node.tensors())


def _is_product(node: Node, terms: list[str], contraction: MatrixContraction) -> bool:
    """Whether there are kernels for products of the operands' type, and extents agree as those want it."""
    shapes = [dict(zip(term, node.shape(index), strict=True)) for index, term in enumerate(terms)]
    equal = node.extents.equal

    def agrees(letter: str) -> bool:
        a, b = (shape[letter] for shape in shapes)
        return equal(a, b) or (letter in contraction.batch and (equal(a, 1) or equal(b, 1)))

    types = {node.builder.dtype(tensor) for tensor in node.tensors()}
    alike = len(types) == 1 and types <= {"float32", "float16", "bfloat16"}
    return alike and all(agrees(letter) for letter in contraction.batch + contraction.summed)


def _at(place: Any, extent: Any) -> Any:
    return tirx.IntImm("int64", 0) if isinstance(extent, tirx.IntImm) and extent.value == 1 else place


def _with_ellipsis(terms: list[str], ranks: list[int]) -> tuple[list[str], str]:
    """The terms with letters for the axes that an ellipsis stands for, and those letters."""
    if len(terms) != len(ranks):
        raise InvalidModelError(f"the equation has {len(terms)} terms for {len(ranks)} inputs")
    widest = max(
        (
            rank - len(term.replace("...", ""))
            for term, rank in zip(terms, ranks, strict=True)
            if "..." in term
        ),
        default=0,
    )
    unused = [letter for letter in string.ascii_letters if not any(letter in term for term in terms)]
    letters = "".join(unused[:widest])
    full = []
    for term, rank in zip(terms, ranks, strict=True):
        count = rank - len(term.replace("...", ""))
        full.append(term.replace("...", letters[widest - count :]))
    return full, letters


def _implicit_result(terms: list[str], ellipsis: str) -> str:
    letters = "".join(terms)
    return ellipsis + "".join(
        sorted(axis for axis in set(letters) if letters.count(axis) == 1 and axis not in ellipsis)
    )


def _extents(node: Node, terms: list[str]) -> dict[str, Extent]:
    extents: dict[str, Extent] = {}
    for index, term in enumerate(terms):
        for axis, extent in zip(term, node.shape(index), strict=True):
            known = extents.get(axis, 1)
            extents[axis] = extent if known == 1 else known
    return extents

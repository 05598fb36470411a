"""Operators that write elements to given places. Later updates win, in the order of the indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..loops import unravelled
from ..node import Node
from ..registry import converts
from .indexing import inside

_Place = Callable[[Sequence[Any], Any], Sequence[Any]]

_REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": tirx.max,
    "min": tirx.min,
}


@converts("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Expr:
    axis = node.axis("axis", 0, node.rank(0))
    extent = node.shape(0)[axis]

    def place(index: Sequence[Any], indices: Any) -> Sequence[Any]:
        return [*index[:axis], inside(indices[tuple(index)], extent), *index[axis + 1 :]]

    return _scatter(node, node.shape(2), place, "scatter_elements")


@converts("ScatterND")
def scatter_nd(node: Node) -> Expr:
    shape, index_shape = node.shape(0), node.shape(1)
    depth, outer = index_shape[-1], len(index_shape) - 1
    if not isinstance(depth, int):
        raise InvalidModelError("the last extent of the indices decides a rank; bind it with shapes")

    def place(index: Sequence[Any], indices: Any) -> Sequence[Any]:
        chosen = [inside(indices[(*index[:outer], k)], shape[k]) for k in range(depth)]
        return [*chosen, *index[outer:]]

    return _scatter(node, node.shape(2), place, "scatter_nd")


def _scatter(node: Node, updates_shape: Sequence[Extent], place: _Place, name: str) -> Expr:
    reduction = node.text("reduction", "none")
    if reduction not in _REDUCTIONS:
        raise InvalidModelError(f"the reduction '{reduction}' does not exist")
    combine, shape = _REDUCTIONS[reduction], node.shape(0)
    boolean = node.dtype(0) == "bool"

    def body(inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        data, indices, updates = (T.buffer_proxy(buffer) for buffer in inputs)
        result = T.buffer_proxy(outputs[0])
        with IRBuilder() as ib:
            with T.seq_scope():
                with T.parallel(0, as_expression(node.extents.product(shape))) as flat:
                    everywhere = unravelled(flat, shape)
                    result[everywhere] = data[everywhere]
                with T.serial(0, as_expression(node.extents.product(updates_shape))) as flat:
                    source = unravelled(flat, updates_shape)
                    target = tuple(place(source, indices))
                    result[target] = combine(result[target], updates[source])
            return ib.get()

    def compute(*tensors: te.Tensor) -> te.Tensor:
        return te.extern(
            tuple(map(as_expression, shape)), list(tensors), body, dtype=[str(tensors[0].dtype)], name=name
        )

    tensors = [node.tensor(0), node.tensor(1), node.tensor(2)]
    if not boolean:
        return node.te(compute, *tensors, name=name)
    narrow = [node.builder.cast(tensors[0], "uint8"), tensors[1], node.builder.cast(tensors[2], "uint8")]
    return node.builder.cast(node.te(compute, *narrow, name=name), "bool")

"""Kernels written as loops, for what tensor expressions cannot say: carried state, data-dependent places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from .extents import Extent, as_expression
from .graph_builder import GraphBuilder

Statements = Callable[[list[Any], list[Any]], None]
"""Emits the body, given the buffers of the inputs and of the outputs, which may be read back, too."""

OutputType = tuple[Sequence[Extent], str]
"""Shape and element type."""


def loop_kernel(
    builder: GraphBuilder,
    tensors: Sequence[Expr],
    outputs: Sequence[OutputType],
    statements: Statements,
    name: str,
) -> list[Expr]:
    """Emits a kernel whose body ``statements`` writes. Booleans are bytes inside of it, 0 or 1.

    Returns:
        One tensor for each of ``outputs``; those that the caller has no use for are its scratch memory.
    """

    def body(inputs: Sequence[Any], results: Sequence[Any]) -> Any:
        with IRBuilder() as ib:
            with T.seq_scope():
                statements([T.buffer_proxy(b) for b in inputs], [T.buffer_proxy(b) for b in results])
            return ib.get()

    # TE gives every output of an extern at least one dimension's worth of type: a list even for one.
    shapes = [tuple(map(as_expression, shape)) for shape, _ in outputs]
    stored = ["uint8" if dtype == "bool" else dtype for _, dtype in outputs]

    def compute(*operands: te.Tensor) -> list[te.Tensor]:
        made = te.extern(shapes, list(operands), body, dtype=stored, name=name)
        return list(made) if isinstance(made, list | tuple) or len(outputs) > 1 else [made]

    operands = [builder.cast(t, "uint8") if builder.dtype(t) == "bool" else t for t in tensors]
    results = builder.te(compute, *operands, name=name)
    return [builder.cast(result, dtype) for result, (_, dtype) in zip(results, outputs, strict=True)]


def unravelled(flat: Any, shape: Sequence[Extent]) -> tuple[Any, ...]:
    """The index of an element counted in row-major order."""
    index = []
    for extent in reversed(shape):
        size = as_expression(extent)
        index.append(tirx.floormod(flat, size))
        flat = tirx.floordiv(flat, size)
    return tuple(reversed(index))


@contextmanager
def loop(count: Extent) -> Iterator[Any]:
    """A serial loop over 0, 1, ... count - 1."""
    with T.serial(0, as_expression(count)) as index:
        yield index


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    """Statements under a condition."""
    with T.If(condition), T.Then():
        yield

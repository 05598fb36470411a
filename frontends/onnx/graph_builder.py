"""The Relax function under construction, and the few ways in which converters add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as PySequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tvm
from tvm import relax, s_tir, te, tirx
from tvm.ir import Constant, Expr, Var

from ...runtime.errors import InvalidModelError
from .extents import Extent, Extents, as_expression
from .narrow_types import decoded, ordinary
from .tabulate import tabulate
from .values import Array, NarrowTensor, SymbolicArray, Value

_OPAQUE = 8
"""TVM's number for a kernel that is never fused."""


class GraphBuilder:
    """Adds bindings to a Relax function, with the symbolic dimensions it may speak of."""

    def __init__(self, extents: Extents) -> None:
        self.extents = extents
        self.block_builder = relax.BlockBuilder()
        self._constants: dict[int, tuple[Array, Constant]] = {}

    def emit(self, value: Expr, name: str = "") -> Expr:
        """Binds an expression to a variable. A tensor whose extents Relax lost gets new symbolic ones."""
        var = self.block_builder.emit(value, name)
        if isinstance(var.ty, relax.TensorType) and var.ty.shape is None and var.ty.ndim >= 0:
            shape = [self.extents.fresh(f"{name or 'value'}_d{axis}") for axis in range(var.ty.ndim)]
            return self.cast_shape(var, shape)
        return var

    def te(self, compute: Callable[..., Any], *tensors: Expr, name: str) -> Any:
        """Emits a kernel written as tensor expressions.

        Args:
            compute: takes one te.Tensor for each of ``tensors`` and returns one, or a list of several. It
                may mention symbolic dimensions freely.
            name: the kernel's name, as profiles show it.

        Returns:
            The result's variable, or a list of variables if ``compute`` returned a list.
        """
        arguments = [self.bound(tensor) for tensor in tensors]
        holders = [
            # Extents as the type spells them: kernels are fused only where both sides spell them alike.
            te.placeholder(list(tensor.ty.shape.values), self.dtype(tensor), f"p{position}")
            for position, tensor in enumerate(arguments)
        ]
        outputs = compute(*holders)
        several = isinstance(outputs, list | tuple)
        results = list(outputs) if several else [outputs]
        scalars = self._scalar_parameters(holders, results)
        function = te.create_prim_func([*holders, *scalars, *results], index_dtype_override="int64")
        call = self._call(function, arguments, scalars, results, name)
        var = self.block_builder.emit(call, name)
        if not several:
            return var
        if len(results) == 1:
            return [var]
        return [self.block_builder.emit(relax.TupleGetItem(var, i)) for i in range(len(results))]

    def constant(self, value: Any, dtype: str | None = None) -> Constant:
        """A constant; the same array always gives the same one."""
        array = np.asarray(value) if dtype is None else np.asarray(value, dtype=dtype)
        known = self._constants.get(id(value))
        if dtype is None and known is not None and known[0] is value:
            return known[1]
        # As a tensor of TVM's, since relax.const would copy an array once more.
        made = relax.const(tvm.runtime.tensor(np.ascontiguousarray(array).reshape(array.shape)), array.dtype)
        if isinstance(value, np.ndarray) and dtype is None:
            self._constants[id(value)] = (value, made)
        return made

    def tensor(self, value: Value) -> Expr:
        """The value as a Relax tensor: a symbolic array by a small kernel, a narrow type decoded."""
        if isinstance(value, np.ndarray):
            return self.constant(ordinary(value))
        if isinstance(value, SymbolicArray):
            return self._materialize(value)
        if isinstance(value, NarrowTensor):
            return decoded(self, value)
        if not isinstance(value, Expr):
            raise InvalidModelError("a tensor is expected where the model has a sequence or nothing")
        return value

    def shape(self, tensor: Expr) -> tuple[Extent, ...]:
        """A tensor's extents in normal form."""
        return tuple(self.extents.simplify(extent) for extent in tensor.ty.shape.values)

    def dtype(self, tensor: Expr) -> str:
        """A tensor's element type."""
        return str(tensor.ty.dtype.dtype) if hasattr(tensor.ty.dtype, "dtype") else str(tensor.ty.dtype)

    def cast_shape(self, tensor: Expr, shape: PySequence[Extent]) -> Expr:
        """States a tensor's extents; where they are not evident, they are checked at run time."""
        known = tensor.ty.shape
        if (
            known is not None
            and len(known.values) == len(shape)
            and all(self.extents.equal(a, b) for a, b in zip(self.shape(tensor), shape, strict=True))
        ):
            return tensor
        dtype = self.dtype(tensor)
        target = relax.TensorType([as_expression(e) for e in shape], dtype)
        # By way of an unknown shape: TVM's CanonicalizeBindings drops a cast between two known ones.
        forgotten = self.block_builder.match_cast(
            self.bound(tensor), relax.TensorType(dtype=dtype, ndim=len(shape))
        )
        return self.block_builder.match_cast(forgotten, target)

    def require(self, condition: Expr) -> None:
        """States a condition on symbolic dimensions, checked at run time."""
        one, zero = tirx.IntImm("int64", 1), tirx.IntImm("int64", 0)
        known = self.extents.decide(condition)
        truth = tirx.Select(condition, one, zero) if known is None else one if known else zero
        checked = self.block_builder.emit(relax.ShapeExpr([truth]))
        # By way of a shape of unknown extents, so that a certain failure waits for the run, too.
        forgotten = self.block_builder.match_cast(checked, relax.ShapeType(ndim=1))
        self.block_builder.match_cast(forgotten, relax.ShapeType([one]))

    def read_extents(self, tensor: Expr, hint: str) -> list[Extent]:
        """The elements of a run-time vector as new symbolic dimensions (so none may be negative)."""
        count = int(self.shape(tensor)[0])
        if count == 0:
            return []
        dimensions = [self.extents.fresh(f"{hint}_d{position}") for position in range(count)]
        shape = self.block_builder.emit(relax.op.tensor_to_shape(self.cast(tensor, "int64")))
        self.block_builder.match_cast(shape, relax.ShapeType(dimensions))
        return list(dimensions)

    def unify(self, a: Extent, b: Extent) -> Extent:
        """The extent that two must share: the known one, else the first. Raises where they cannot agree."""
        if self.extents.decide_equal(a, b) is False:
            raise InvalidModelError(f"extents {a} and {b} differ")
        return b if isinstance(b, int) else a

    def broadcast_shape(self, *shapes: PySequence[Extent]) -> list[Extent]:
        """The shape that NumPy's rules give, if symbolic extents that are not known to be 1 are equal."""
        rank = max(map(len, shapes), default=0)
        result: list[Extent] = [1] * rank
        for shape in shapes:
            for axis, extent in enumerate(shape, rank - len(shape)):
                if self.extents.equal(result[axis], 1):
                    result[axis] = extent
                elif not self.extents.equal(extent, 1):
                    result[axis] = self.unify(result[axis], extent)
        return result

    def broadcastable(self, *tensors: Expr) -> tuple[Expr, ...]:
        """The tensors with extents so stated that each is provably 1 or the common one."""
        shapes = [self.shape(tensor) for tensor in tensors]
        common = self.broadcast_shape(*shapes)
        stated = []
        for tensor, shape in zip(tensors, shapes, strict=True):
            tail = common[len(common) - len(shape) :]
            agreed = [e if self.extents.equal(e, 1) else c for e, c in zip(shape, tail, strict=True)]
            stated.append(self.cast_shape(tensor, agreed))
        return tuple(stated)

    def cast(self, tensor: Expr, dtype: str) -> Expr:
        """The tensor in another element type."""
        return tensor if self.dtype(tensor) == dtype else self.emit(relax.op.astype(tensor, dtype))

    def reshape(self, tensor: Expr, shape: PySequence[Extent]) -> Expr:
        """The tensor's elements, in row-major order, in another shape of as many elements."""
        known = self.shape(tensor)
        if len(known) == len(shape) and all(map(self.extents.equal, known, shape)):
            return tensor
        target = relax.ShapeExpr([as_expression(self.extents.simplify(extent)) for extent in shape])
        return self.emit(relax.op.reshape(self.bound(tensor), target))

    @contextmanager
    def main_function(self, parameters: list[Expr]) -> Iterator[None]:
        """The scope in which ``main`` is built."""
        with self.block_builder.function("main", parameters):
            try:
                yield
            except BaseException:
                # The block builder would warn of what an interrupted walk leaves open.
                self.block_builder._end_block()
                raise

    @contextmanager
    def branch(self) -> Iterator[Callable[[Expr], Expr]]:
        """A block of bindings of its own; the yielded function closes it around its result."""
        self.block_builder._begin_binding_block()
        blocks: list[Any] = []

        def close(result: Expr) -> Expr:
            blocks.append(self.block_builder._end_block())
            return relax.SeqExpr(blocks, result)

        try:
            yield close
        finally:
            if not blocks:
                self.block_builder._end_block()

    def outlined(self, body: Expr, name: str) -> Expr:
        """A block that calls a new private function, which computes ``body``.

        What the body reads from outside becomes parameters; symbolic dimensions that cannot be read off
        the parameters' shapes come along as one more, a shape.
        """
        normal = self.block_builder.normalize(body)
        captured = [var for var in relax.analysis.free_vars(normal) if isinstance(var.ty, relax.TensorType)]
        dimensions = list(relax.analysis.free_symbolic_vars(relax.Function(captured, normal)))
        extra = [relax.Var("dimensions", relax.ShapeType(dimensions))] if dimensions else []
        function = relax.utils.copy_with_new_vars(relax.Function([*captured, *extra], normal))
        symbol = self.block_builder.add_func(function, name)
        shapes = [relax.ShapeExpr(dimensions)] if dimensions else []
        with self.branch() as close:
            return close(self.emit(relax.Call(symbol, [*captured, *shapes])))

    def bound(self, tensor: Expr, name: str = "") -> Expr:
        """The expression as a variable or a constant."""
        return tensor if isinstance(tensor, Var | Constant) else self.emit(tensor, name)

    def _materialize(self, value: SymbolicArray) -> Expr:
        elements = [_typed(element, value.dtype) for element in value.elements.flat]
        strides = [int(np.prod(value.shape[axis + 1 :])) for axis in range(len(value.shape))]

        def select(*index: Any) -> Expr:
            flat = sum((i * s for i, s in zip(index, strides, strict=True)), start=tirx.IntImm("int64", 0))
            chosen = elements[-1]
            for position in range(len(elements) - 2, -1, -1):
                chosen = tirx.Select(
                    tirx.EQ(flat, tirx.IntImm("int64", position)), elements[position], chosen
                )
            return chosen

        return self.te(lambda: tabulate(value.shape, select, name="shape_value"), name="shape_value")

    def _scalar_parameters(self, holders: list[Any], results: list[Any]) -> list[Var]:
        """Symbolic dimensions that the kernel mentions but cannot read off an argument's shape."""
        bound = {extent for holder in holders for extent in holder.shape if isinstance(extent, Var)}
        function = te.create_prim_func([*holders, *results], index_dtype_override="int64")
        used = set(tirx.analysis.undefined_vars(function.body, []))
        for holder in [*holders, *results]:
            for extent in holder.shape:
                used.update(tirx.analysis.undefined_vars(extent))
        return [var for var in self.extents.variables.values() if var in used and var not in bound]

    def _call(
        self,
        function: tirx.PrimFunc,
        arguments: list[Expr],
        scalars: list[Var],
        results: list[Any],
        name: str,
    ) -> Expr:
        types = [relax.TensorType(list(result.shape), result.dtype) for result in results]
        shown = {extent for result in results for extent in result.shape if isinstance(extent, Var)}
        if any(var not in shown for var in scalars):
            # TVM cannot fuse two kernels that both take a dimension which no shape of theirs shows.
            function = function.with_attr("op_pattern", _OPAQUE)
        symbol = self.block_builder.add_func(_private(function), name)
        out = types if len(types) > 1 else types[0]
        # Scalars come between the tensors and the results in the parameters of the kernel.
        return relax.call_tir(symbol, relax.Tuple([*arguments, *scalars]), out)


def _private(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with variables of its own, named by the module it goes to."""
    return s_tir.renew_defs(function.without_attr("global_symbol"))


def _typed(element: Any, dtype: str) -> Expr:
    return element.astype(dtype) if isinstance(element, Expr) else tirx.const(element, dtype)

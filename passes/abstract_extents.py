"""Gives kernels of dynamic models extents of their own, and then keeps one kernel of each kind.

Deep in a dynamic model, extents are long expressions of the model's dimensions: a map's height may be
``(height - 1) // 8 + 1``. A kernel does not need to know. Where it mentions such an expression only as a
whole, plus or minus a constant, a new variable, which the caller's tensor binds, takes its place. What TVM
has to prove about the kernel becomes much simpler, and kernels at several depths of a model become one.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import ir, relax, tirx
from tvm.sym import Analyzer

from .operator_name import operator_name
from .parameter_order import parameter_order, with_parameter_order

_ANALYZER = Analyzer()
_COMPOUND = (tirx.Add, tirx.Sub, tirx.Mul, tirx.FloorDiv, tirx.FloorMod, tirx.Max, tirx.Min)


def abstract_extents(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass."""
    graph = {v: f for v, f in mod.functions_items() if isinstance(f, relax.Function)}
    redirector = _Redirector(tvm.IRModule(graph, attrs=mod.attrs))
    for variable, function in mod.functions_items():
        if isinstance(function, tirx.PrimFunc):
            redirector.add_kernel(variable.name_hint, _abstract(function))
    for variable, function in graph.items():
        redirector.builder_.update_func(variable, redirector.visit_expr(function))
    return relax.transform.DeadCodeElimination()(redirector.builder_.get())


@dataclass(frozen=True)
class _Callee:
    """A kernel that stands for others.

    Attributes:
        variable: its name in the module.
        order: its parameters, results included, as places among those of the kernel it stands for.
    """

    variable: ir.GlobalVar
    order: list[int]


@relax.expr_functor.mutator
class _Redirector(relax.PyExprMutator):  # type: ignore[misc]
    """Calls the kernel that stands for the one called, without the scalars that it no longer takes."""

    def __init__(self, graph: tvm.IRModule) -> None:
        super().__init__(graph)
        self.callees: dict[str, _Callee] = {}
        self._distinct: dict[tvm_ffi.StructuralKey, ir.GlobalVar] = {}

    def add_kernel(self, name: str, kernel: tirx.PrimFunc) -> None:
        """Makes ``kernel``, or an equal one that is there already, stand for the kernel ``name``."""
        order = parameter_order(kernel)
        kernel = with_parameter_order(kernel, order)
        key = tvm_ffi.StructuralKey(kernel)
        if key not in self._distinct:
            self._distinct[key] = self.builder_.add_func(kernel, name)
        self.callees[name] = _Callee(self._distinct[key], order)

    def visit_call_(self, call: ir.Call) -> relax.Expr:
        is_kernel_call = operator_name(call) == "relax.call_tir"
        callee = self.callees.get(call.args[0].name_hint) if is_kernel_call else None
        call = super().visit_call_(call)
        if callee is None:
            return call
        operands = list(call.args[1].fields)
        results = _result_types(call)
        if len(operands) + len(results) > len(callee.order):
            operands = [operand for operand in operands if not ir.is_prim_expr(operand)]
        operands = [operands[place] for place in callee.order[: len(operands)]]
        return relax.call_tir(
            callee.variable, relax.Tuple(operands), results if len(results) > 1 else results[0]
        )


def _result_types(call: ir.Call) -> list[relax.Type]:
    (result,) = call.ty_args
    return list(result.fields) if isinstance(result, relax.TupleType) else [result]


def _abstract(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """``function`` with variables for its compound extents; itself where it mentions their parts alone."""
    replacements = _replacements(function)
    if not replacements:
        return function

    def replace(expr: tirx.Expr) -> tirx.Expr:
        core, constant = _without_constant(expr)
        replacement = replacements.get(tvm_ffi.StructuralKey(core))
        return expr if replacement is None else _ANALYZER.simplify(replacement + constant)

    replaced = tvm_ffi.structural_map(function, (_COMPOUND, replace), order="pre")
    return _without_unused_scalars(replaced) or function


def _replacements(function: tirx.PrimFunc) -> dict[tvm_ffi.StructuralKey, tirx.Expr]:
    """For each compound extent of a parameter: itself without its constant term, to a new variable less that.

    An extent that adds a constant to the variable of another parameter stays: the two belong together.
    """
    found: dict[tvm_ffi.StructuralKey, tirx.Expr] = {}
    extents = [extent for param in function.params for extent in getattr(param.ty, "shape", ())]
    bound = {extent for extent in extents if isinstance(extent, tirx.Var)}
    for extent in extents:
        core, constant = _without_constant(extent)
        key = tvm_ffi.StructuralKey(core)
        if isinstance(extent, _COMPOUND) and core not in bound and key not in found:
            variable = tirx.Var(f"extent_{len(found)}", extent.ty.dtype)
            found[key] = _ANALYZER.simplify(variable - constant)
    return found


def _without_constant(extent: tirx.Expr) -> tuple[tirx.Expr, int]:
    """``extent`` as an expression plus a constant."""
    if not isinstance(extent, tirx.Add | tirx.Sub) or not isinstance(extent.b, tirx.IntImm):
        return extent, 0
    core, constant = _without_constant(extent.a)
    return core, constant + (int(extent.b) if isinstance(extent, tirx.Add) else -int(extent.b))


def _without_unused_scalars(function: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """``function`` without its scalar parameters; None if it still reads one."""
    buffers = [param for param in function.params if isinstance(param.ty, tirx.BufferType)]
    bound = {extent for buffer in buffers for extent in buffer.ty.shape if isinstance(extent, tirx.Var)}
    scalars = {param for param in function.params if not isinstance(param.ty, tirx.BufferType)} - bound
    read: list[tirx.Var] = []
    tvm_ffi.structural_walk([function.body, [buffer.ty for buffer in buffers]], (tirx.Var, read.append))
    if scalars & set(read):
        return None
    return tirx.PrimFunc(buffers, function.body, function.ret_type, function.attrs)

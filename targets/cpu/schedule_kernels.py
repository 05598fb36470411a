"""Gives every kernel of a module its schedule."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import ir, relax, tirx
from tvm.s_tir import Schedule, ScheduleError

from ...runtime.signature import KernelSpec
from . import vector_math  # noqa: F401 - registers the lowering of exp, tanh, ...
from .kernel_costs import bytes_moved, flops
from .machine import Machine
from .templates import TEMPLATES, Template


@dataclass(frozen=True)
class ScheduledModule:
    """A module whose kernels are all scheduled.

    Attributes:
        module: Relax functions as they were, kernels scheduled.
        kernels: what each kernel is, in order of their names.
    """

    module: tvm.IRModule
    kernels: tuple[KernelSpec, ...]


def schedule_kernels(mod: tvm.IRModule, machine: Machine) -> ScheduledModule:
    """Schedules each function by the first template that matches it, with that template's default."""
    scheduled = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
    calls = _call_sites(mod)
    kernels = []
    for variable, function in mod.functions_items():
        if isinstance(function, tirx.PrimFunc):
            name = variable.name_hint
            template, kernel = schedule_kernel(function, machine)
            scheduled.update_func(scheduled.get_global_var(name), kernel)
            kernels.append(KernelSpec(name, template, calls[name], flops(function), bytes_moved(function)))
    return ScheduledModule(scheduled, tuple(sorted(kernels, key=lambda kernel: kernel.name)))


def _call_sites(mod: tvm.IRModule) -> Counter[str]:
    """How many calls of each kernel the Relax functions contain."""
    calls: Counter[str] = Counter()

    def count(expr: relax.Expr) -> None:
        if (
            isinstance(expr, ir.Call)
            and isinstance(expr.op, ir.Op)
            and expr.op.name.startswith("relax.call_tir")
        ):
            calls[expr.args[0].name_hint] += 1

    for _, function in mod.functions_items():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, count)
    return calls


def schedule_kernel(function: tirx.PrimFunc, machine: Machine) -> tuple[str, tirx.PrimFunc]:
    """The template's name and the scheduled ``function``."""
    if function.body.block.name_hint != "root":
        # One opaque block (a te.extern) is the whole function: its author wrote the loops as they should run.
        return "hand_written", _without_pragmas(function)
    for template in TEMPLATES:
        scheduled = _apply(template, function, machine)
        if scheduled is not None:
            return template.name, scheduled
    raise AssertionError("the last template takes everything")


def _without_pragmas(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """``function`` without the marks that te.extern leaves, and of which the code generator warns."""

    def unwrap(statement: tirx.AttrStmt) -> tirx.Stmt:
        return statement.body if statement.attr_key == "pragma_scope" else statement

    return tvm_ffi.structural_map(function, (tirx.AttrStmt, unwrap))


def _apply(template: Template, function: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """``function`` by ``template``; None if that does not match, or the scheduler refuses a step of it."""
    sch = Schedule(tvm.IRModule({"main": function}), debug_mask="none", error_render_level="none")
    sch.work_on("main")
    workload = template.matches(sch)
    if workload is None:
        return None
    try:
        template.apply(sch, workload, template.default(workload, machine))
    except ScheduleError:
        return None
    return sch.mod["main"]

"""Gives every kernel of a module its schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.s_tir import Schedule, ScheduleError

from ...passes.operator_name import operator_name
from ...runtime.signature import KernelSpec
from . import vector_math  # noqa: F401 - registers the lowering of exp, tanh, ...
from .dot_products import lower_dot_products
from .kernel_costs import bytes_moved, flops
from .kernel_identity import KernelIdentity, identify
from .machine import Machine
from .prefetch import insert_prefetches
from .rounding import round_by_instruction, round_once
from .templates import TEMPLATES, Template
from .templates.knobs import from_knobs, to_knobs
from .tile_instructions import insert_tile_instructions


class Choices(Protocol):
    """Schedules that someone has chosen for some kernels, in place of their templates' defaults."""

    def knobs(self, kernel: KernelIdentity, default: Mapping[str, int]) -> Mapping[str, int] | None:
        """The choice for a kernel; None for the template's ``default``."""

    def refuse(self, kernel: KernelIdentity, reason: str) -> None:
        """Hears that a choice could not be used, so that the kernel gets the default; may raise."""


@dataclass(frozen=True)
class ScheduledKernel:
    """A kernel with its schedule.

    Attributes:
        template: the name of the template that took it.
        function: the scheduled function.
        tuned: whether the schedule was chosen, not the template's default.
    """

    template: str
    function: tirx.PrimFunc
    tuned: bool = False


@dataclass(frozen=True)
class ScheduledModule:
    """A module whose kernels are all scheduled.

    Attributes:
        module: Relax functions as they were, kernels scheduled.
        kernels: what each kernel is, in order of their names.
    """

    module: tvm.IRModule
    kernels: tuple[KernelSpec, ...]


def schedule_kernels(mod: tvm.IRModule, machine: Machine, choices: Choices | None = None) -> ScheduledModule:
    """Schedules each function by the first template that matches it, by the choice for it or the default."""
    scheduled = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
    calls = call_sites(mod)
    kernels = []
    for variable, function in mod.functions_items():
        if isinstance(function, tirx.PrimFunc):
            name = variable.name_hint
            kernel = schedule_kernel(function, machine, choices)
            scheduled.update_func(scheduled.get_global_var(name), kernel.function)
            amounts = flops(function), bytes_moved(function)
            kernels.append(KernelSpec(name, kernel.template, calls[name], *amounts, kernel.tuned))
    return ScheduledModule(scheduled, tuple(sorted(kernels, key=lambda kernel: kernel.name)))


def call_sites(mod: tvm.IRModule) -> Counter[str]:
    """How many calls of each kernel the Relax functions contain."""
    calls: Counter[str] = Counter()

    def count(expr: relax.Expr) -> None:
        if operator_name(expr).startswith("relax.call_tir"):
            calls[expr.args[0].name_hint] += 1

    for _, function in mod.functions_items():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, count)
    return calls


def schedule_kernel(
    function: tirx.PrimFunc, machine: Machine, choices: Choices | None = None
) -> ScheduledKernel:
    """Schedules one unscheduled ``function``."""
    if function.body.block.name_hint != "root":
        # One opaque block (a te.extern) is the whole function: its author wrote the loops as they should run.
        return ScheduledKernel("hand_written", _without_pragmas(function))
    for template in TEMPLATES:
        chosen = choices and _by_choice(template, function, machine, choices)
        if chosen is not None:
            return ScheduledKernel(template.name, chosen, tuned=True)
        scheduled = _by_default(template, function, machine)
        if scheduled is not None:
            return ScheduledKernel(template.name, scheduled)
    raise AssertionError("the last template takes everything")


def _without_pragmas(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """``function`` without the marks that te.extern leaves, and of which the code generator warns."""

    def unwrap(statement: tirx.AttrStmt) -> tirx.Stmt:
        return statement.body if statement.attr_key == "pragma_scope" else statement

    return tvm_ffi.structural_map(function, (tirx.AttrStmt, unwrap))


def _by_default(template: Template, function: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc | None:
    """``function`` by ``template``; None if that does not match, or the scheduler refuses a step of it."""
    sch = schedule_of(function)
    try:
        workload = template.matches(sch)
        if workload is None:
            return None
        template.apply(sch, workload, template.default(workload, machine))
    except ScheduleError:
        return None
    return _with_instructions(sch.mod["main"], machine)


def _by_choice(
    template: Template, function: tirx.PrimFunc, machine: Machine, choices: Choices
) -> tirx.PrimFunc | None:
    """As ``_by_default``, with the config chosen; None also if there is no choice, or not a usable one."""
    sch = schedule_of(function)
    workload = template.matches(sch)
    if workload is None:
        return None
    default = template.default(workload, machine)
    kernel = identify(function, template)
    knobs = choices.knobs(kernel, to_knobs(default))
    if knobs is None:
        return None
    try:
        config = from_knobs(default, knobs)
        if config not in template.space(workload, machine):
            raise ValueError(f"{dict(knobs)} is no point of the template's space")
        template.apply(sch, workload, config)
    except (ValueError, ScheduleError) as error:
        choices.refuse(kernel, str(error).strip().splitlines()[-1])
        return None
    return _with_instructions(sch.mod["main"], machine)


def _with_instructions(function: tirx.PrimFunc, machine: Machine) -> tirx.PrimFunc:
    """``function``, scheduled, with the processor's instructions that TVM does not choose by itself."""
    function = round_once(lower_dot_products(insert_tile_instructions(function), machine))
    return insert_prefetches(round_by_instruction(function, machine))


def schedule_of(function: tirx.PrimFunc) -> Schedule:
    """A schedule to hand to a template, of ``function`` alone."""
    sch = Schedule(tvm.IRModule({"main": function}), debug_mask="none", error_render_level="none")
    sch.work_on("main")
    return sch

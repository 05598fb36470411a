"""Gives every kernel of a module its schedule."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from .machine import Machine
from .templates import TEMPLATES

TEMPLATE_ATTRIBUTE = "relaxc.template"


@dataclass(frozen=True)
class ScheduledModule:
    """A module whose kernels are all scheduled.

    Attributes:
        module: the kernels carry their template's name in ``TEMPLATE_ATTRIBUTE``.
        templates: kernel name to template name.
    """

    module: tvm.IRModule
    templates: dict[str, str]


def schedule_kernels(mod: tvm.IRModule, machine: Machine) -> ScheduledModule:
    """Schedules each function by the first template that matches it, with that template's default."""
    scheduled = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
    templates = {}
    for name, function in mod.functions_items():
        if isinstance(function, tirx.PrimFunc):
            templates[name.name_hint], kernel = schedule_kernel(function, machine)
            scheduled.update_func(scheduled.get_global_var(name.name_hint), kernel)
    return ScheduledModule(scheduled, templates)


def schedule_kernel(function: tirx.PrimFunc, machine: Machine) -> tuple[str, tirx.PrimFunc]:
    """The template's name and the scheduled ``function``."""
    for template in TEMPLATES:
        sch = Schedule(tvm.IRModule({"main": function}), debug_mask="none", error_render_level="none")
        sch.work_on("main")
        workload = template.matches(sch)
        if workload is None:
            continue
        template.apply(sch, workload, template.default(workload, machine))
        return template.name, sch.mod["main"].with_attr(TEMPLATE_ATTRIBUTE, template.name)
    raise AssertionError("the last template takes everything")

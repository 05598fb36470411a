"""What there is to tune in a model: its distinct kernels."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import ir, relax, tirx

from ..passes.constants import constant_value
from ..targets.cpu.kernel_costs import bytes_moved, flops
from ..targets.cpu.kernel_identity import KernelIdentity, identify
from ..targets.cpu.schedule_kernels import call_sites, schedule_kernel, schedule_of
from ..targets.cpu.templates import TEMPLATES
from ..targets.cpu.templates.knobs import to_knobs
from ..targets.registry import CpuTarget
from .build_kernel import kernel_arguments
from .measurement import Candidate, Knobs
from .space import SearchSpace

# Copies of weights that a measurement goes through: no more, so that memory stays in bounds.
_COPIES_BYTES = 96 << 20


FLOPS, BYTES = "flops", "bytes_moved"


@dataclass(frozen=True)
class Task:
    """A kernel to tune.

    Attributes:
        kernel: its identity.
        names: its names in the model.
        calls: how often one run of the model calls it, under all of them.
        source: the unscheduled function as JSON.
        workload: the numbers of the template's workload, by name; -1 for what is symbolic.
        space: the schedules to choose from.
        default: the template's choice.
        copies: see ``ArgumentSpec``.
        flops, bytes_moved: of one call.
    """

    kernel: KernelIdentity
    names: tuple[str, ...]
    calls: int
    source: str
    workload: Mapping[str, int]
    space: SearchSpace
    default: Knobs
    copies: tuple[int, ...]
    flops: int
    bytes_moved: int

    @property
    def name(self) -> str:
        """One of its names."""
        return self.names[0]

    @property
    def numbers(self) -> dict[str, int]:
        """What records say of the workload."""
        return {**self.workload, FLOPS: self.flops, BYTES: self.bytes_moved}

    def candidate(self, knobs: Knobs | None, target: CpuTarget) -> Candidate:
        """A schedule of it, to be measured."""
        return Candidate(self.source, knobs, target, self.copies)


@dataclass(frozen=True)
class ExtractedTasks:
    """The tasks of a model, and for how many kernels there is no choice, by the reason."""

    tasks: tuple[Task, ...]
    without_choice: Mapping[str, int]


class _NoChoiceError(Exception):
    """A kernel cannot be tuned; says why."""


def extract_tasks(module: tvm.IRModule, target: CpuTarget) -> ExtractedTasks:
    """The distinct kernels of a module that is fused but not yet scheduled."""
    calls, weights = call_sites(module), _weight_arguments(module)
    total = model_bytes(module)
    tasks: dict[KernelIdentity, Task] = {}
    without: Counter[str] = Counter()
    for variable, function in module.functions_items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        name = variable.name_hint
        try:
            task = _task(name, function, calls[name], _copies(function, weights[name], total), target)
        except _NoChoiceError as reason:
            without[str(reason)] += 1
            continue
        known = tasks.get(task.kernel)
        tasks[task.kernel] = task if known is None else _joined(known, task)
    return ExtractedTasks(tuple(tasks.values()), dict(without))


def _joined(task: Task, same: Task) -> Task:
    """A kernel that the model has under several names."""
    return dataclasses.replace(task, names=task.names + same.names, calls=task.calls + same.calls)


def _task(name: str, function: tirx.PrimFunc, calls: int, copies: tuple[int, ...], target: CpuTarget) -> Task:
    try:
        kernel_arguments(function)
    except ValueError:
        raise _NoChoiceError("extents known only at run time") from None
    template_name = schedule_kernel(function, target.machine).template
    template = next((template for template in TEMPLATES if template.name == template_name), None)
    if template is None:
        raise _NoChoiceError("hand-written loops")
    workload = template.matches(schedule_of(function))
    space = SearchSpace(map(to_knobs, template.space(workload, target.machine)))
    if len(space) < 2:
        raise _NoChoiceError("a single schedule")
    return Task(
        kernel=identify(function, template),
        names=(name,),
        calls=calls,
        source=ir.save_json(function.with_attr("global_symbol", "main")),
        workload=dict(_numbers(workload)),
        space=space,
        default=to_knobs(template.default(workload, target.machine)),
        copies=copies,
        flops=flops(function) or 0,
        bytes_moved=bytes_moved(function) or 0,
    )


def _numbers(workload: Any) -> Iterator[tuple[str, int]]:
    """The fields of a workload as integers; a tuple gives one for each of its elements."""
    for field in dataclasses.fields(workload):
        value = getattr(workload, field.name)
        if isinstance(value, tuple):
            yield from ((f"{field.name}{i}", -1 if v is None else int(v)) for i, v in enumerate(value))
        elif value is None or isinstance(value, int):
            yield field.name, -1 if value is None else int(value)


def _weight_arguments(module: tvm.IRModule) -> Mapping[str, Mapping[int, int]]:
    """For each kernel, which of its arguments are constants, with their bytes."""
    found: defaultdict[str, dict[int, int]] = defaultdict(dict)

    def note(expr: relax.Expr) -> None:
        if isinstance(expr, ir.Call) and expr.op.same_as(ir.Op.get("relax.call_tir")):
            for position, argument in enumerate(expr.args[1].fields):
                value = constant_value(argument)
                if value is not None:
                    found[expr.args[0].name_hint][position] = value.nbytes

    for _, function in module.functions_items():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, note)
    return found


def model_bytes(module: tvm.IRModule) -> int:
    """Bytes of all constants that kernels are handed."""
    return sum(size for arguments in _weight_arguments(module).values() for size in arguments.values())


def weight_copies(module: tvm.IRModule, name: str, model_bytes: int) -> tuple[int, ...]:
    """``Task.copies`` for a kernel of ``module``, as part of a model with so many bytes of weights."""
    return _copies(module[name], _weight_arguments(module)[name], model_bytes)


def _copies(function: tirx.PrimFunc, weights: Mapping[int, int], model_bytes: int) -> tuple[int, ...]:
    """Enough copies of a kernel's weights to take as much memory as all weights of the model."""
    own = sum(weights.values())
    count = max(1, math.ceil(min(model_bytes, _COPIES_BYTES) / own)) if own else 1
    return tuple(min(count, 64) if position in weights else 1 for position in range(len(function.params)))

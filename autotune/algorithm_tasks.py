"""Which algorithm an operator shall go by, as a task like any other.

The points of such a task's space are algorithms. Each is measured as the kernel that a compilation would make
of the operator and of what is often behind it, with its default schedule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import ir, tirx

from ..targets.cpu.kernel_costs import bytes_moved, flops
from ..targets.cpu.kernel_identity import KernelIdentity
from ..targets.registry import CpuTarget
from .measurement import Candidate, Knobs
from .space import SearchSpace
from .tasks import Task, weight_copies

Fuse = Callable[[Knobs, CpuTarget], tvm.IRModule]
"""A module with the fused kernel of an operator, by an algorithm, and maybe kernels that change layouts."""


@dataclass(frozen=True)
class Operator:
    """An operator that several algorithms can compute.

    Attributes:
        name: for people.
        choice: the key under which records keep the choice.
        workload: its extents.
        algorithms: what there is to choose from, the default first.
        fuse: see ``Fuse``.
    """

    name: str
    choice: KernelIdentity
    workload: Mapping[str, int]
    algorithms: Sequence[Knobs]
    fuse: Fuse


@dataclass(frozen=True)
class AlgorithmTask(Task):
    """An operator of which the algorithm is to be chosen.

    Attributes:
        fuse: see ``Fuse``.
        model_bytes: of all weights of the model.
    """

    fuse: Fuse = dataclasses.field(kw_only=True)
    model_bytes: int = dataclasses.field(kw_only=True)

    def candidate(self, knobs: Knobs | None, target: CpuTarget) -> Candidate:
        """An algorithm with its default schedule."""
        module = self.fuse(self.default if knobs is None else knobs, target)
        name, function = _kernel(module)
        source = ir.save_json(function.with_attr("global_symbol", "main"))
        return Candidate(source, None, target, weight_copies(module, name, self.model_bytes))


def algorithm_tasks(
    operators: Iterable[tuple[Operator, int]], target: CpuTarget, model_bytes: int
) -> list[AlgorithmTask]:
    """A task for each operator that has a choice; how often a model calls it is given."""
    return [
        _task(operator, calls, target, model_bytes)
        for operator, calls in operators
        if len(operator.algorithms) > 1
    ]


def _task(operator: Operator, calls: int, target: CpuTarget, model_bytes: int) -> AlgorithmTask:
    default = operator.algorithms[0]
    _, function = _kernel(operator.fuse(default, target))
    return AlgorithmTask(
        kernel=operator.choice,
        names=(operator.name,),
        calls=calls,
        source="",
        workload=operator.workload,
        space=SearchSpace(operator.algorithms),
        default=default,
        copies=(),
        flops=flops(function) or 0,
        bytes_moved=bytes_moved(function) or 0,
        fuse=operator.fuse,
        model_bytes=model_bytes,
    )


def _kernel(module: tvm.IRModule) -> tuple[str, tirx.PrimFunc]:
    """The kernel that computes; those that change layouts do no arithmetic."""
    kernels = {
        variable.name_hint: function
        for variable, function in module.functions_items()
        if isinstance(function, tirx.PrimFunc)
    }
    return max(kernels.items(), key=lambda named: flops(named[1]) or 0)

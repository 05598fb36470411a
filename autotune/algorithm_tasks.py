"""Which algorithm each convolution of a model shall go by, as tasks like any other.

The points of such a task's space are algorithms. Each is measured as the kernel that a compilation would make
of the convolution with a bias and a ReLU behind it, with its default schedule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import ir, relax, tirx

from ..passes.compute.winograd import WINDOW, Tiling
from ..passes.constants import constant
from ..passes.lower_winograd_conv2d import Conv2dExtents
from ..passes.pipeline import graph_passes
from ..targets.cpu.conv2d_algorithms import algorithm_knobs, algorithm_of, algorithms, identify_choice
from ..targets.cpu.kernel_costs import bytes_moved, flops
from ..targets.registry import CpuTarget
from .measurement import Candidate, Knobs
from .space import SearchSpace
from .tasks import Task, weight_copies


@dataclass(frozen=True)
class AlgorithmTask(Task):
    """A convolution of which the algorithm is to be chosen.

    Attributes:
        extents: of the convolution.
        model_bytes: of all weights of the model.
    """

    extents: Conv2dExtents = dataclasses.field(kw_only=True)
    model_bytes: int = dataclasses.field(kw_only=True)

    def candidate(self, knobs: Knobs | None, target: CpuTarget) -> Candidate:
        """An algorithm with its default schedule."""
        tiling = algorithm_of(self.default if knobs is None else knobs, self.extents)
        source, copies = _source(self.extents, tiling, target, self.model_bytes)
        return Candidate(source, None, target, copies)


def algorithm_tasks(
    calls: Mapping[Conv2dExtents, int], target: CpuTarget, model_bytes: int
) -> list[AlgorithmTask]:
    """A task for each convolution that has a choice; how often a model calls it is given."""
    tasks = [
        _task(extents, count, target, model_bytes) for extents, count in calls.items() if not extents.guessed
    ]
    return [task for task in tasks if len(task.space) > 1]


def _task(extents: Conv2dExtents, calls: int, target: CpuTarget, model_bytes: int) -> AlgorithmTask:
    points = [algorithm_knobs(tiling) for tiling in algorithms(extents, target.machine)]
    direct = _kernel(_module(extents, None, target))[1]
    lanes = target.machine.lanes("float32")
    return AlgorithmTask(
        kernel=identify_choice(extents),
        names=(
            f"conv 3x3 {extents.channels}-{extents.out_blocks * lanes} of {extents.height}x{extents.width}",
        ),
        calls=calls,
        source="",
        workload={name: int(value) for name, value in vars(extents).items()},
        space=SearchSpace(points),
        default=points[0],
        copies=(),
        flops=flops(direct) or 0,
        bytes_moved=bytes_moved(direct) or 0,
        extents=extents,
        model_bytes=model_bytes,
    )


def _source(
    extents: Conv2dExtents, tiling: Tiling | None, target: CpuTarget, model_bytes: int
) -> tuple[str, tuple[int, ...]]:
    """The kernel of the convolution by one algorithm as JSON, and the copies of its arguments."""
    module = _module(extents, tiling, target)
    name, function = _kernel(module)
    copies = weight_copies(module, name, model_bytes)
    return ir.save_json(function.with_attr("global_symbol", "main")), copies


def _kernel(module: tvm.IRModule) -> tuple[str, tirx.PrimFunc]:
    ((name, function),) = (
        (variable.name_hint, function)
        for variable, function in module.functions_items()
        if isinstance(function, tirx.PrimFunc) and "conv2d" in variable.name_hint
    )
    return name, function


def _module(extents: Conv2dExtents, tiling: Tiling | None, target: CpuTarget) -> tvm.IRModule:
    """The fused convolution with a bias and a ReLU, between changes of layout."""
    lanes = target.machine.lanes("float32")
    module = _convolution(extents, extents.out_blocks * lanes)
    with target.tvm_target:
        for step in graph_passes(lanes, choose_tiling=partial(_fixed, tiling)):
            module = step.run(module)
    return module


def _fixed(tiling: Tiling | None, _extents: Conv2dExtents) -> Tiling | None:
    return tiling


def _convolution(extents: Conv2dExtents, outputs: int) -> tvm.IRModule:
    shape = [extents.batch, extents.channels, extents.height, extents.width]
    weight = np.ones((outputs, extents.channels, WINDOW, WINDOW), np.float32)
    bias = np.ones((1, outputs, 1, 1), np.float32)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, constant(weight), padding=(1, 1)))
            y = builder.emit(relax.op.add(y, constant(bias)))
            result = builder.emit_output(relax.Tuple([relax.op.nn.relu(y)]))
        builder.emit_func_output(result)
    return builder.get()

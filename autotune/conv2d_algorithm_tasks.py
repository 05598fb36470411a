"""Which algorithm each convolution shall go by: it is measured with a bias and a ReLU behind it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import tvm
from tvm import relax

from ..passes.compute.winograd import WINDOW
from ..passes.constants import constant
from ..passes.lower_winograd_conv2d import Conv2dExtents
from ..passes.pipeline import graph_passes
from ..targets.cpu.conv2d_algorithms import algorithm_knobs, algorithm_of, algorithms, identify_choice
from ..targets.registry import CpuTarget
from .algorithm_tasks import AlgorithmTask, Operator, algorithm_tasks
from .measurement import Knobs


def conv2d_algorithm_tasks(
    calls: Mapping[Conv2dExtents, int], target: CpuTarget, model_bytes: int
) -> list[AlgorithmTask]:
    """A task for each convolution that has a choice; how often a model calls it is given."""
    known = ((extents, count) for extents, count in calls.items() if not extents.guessed)
    operators = [(_operator(extents, target), count) for extents, count in known]
    return algorithm_tasks(operators, target, model_bytes)


def _operator(extents: Conv2dExtents, target: CpuTarget) -> Operator:
    outputs = extents.out_blocks * target.machine.lanes("float32")
    return Operator(
        name=f"conv 3x3 {extents.channels}-{outputs} of {extents.height}x{extents.width}",
        choice=identify_choice(extents),
        workload={name: int(value) for name, value in vars(extents).items()},
        algorithms=[algorithm_knobs(tiling) for tiling in algorithms(extents, target.machine)],
        fuse=partial(_fused, extents),
    )


def _fused(extents: Conv2dExtents, knobs: Knobs, target: CpuTarget) -> tvm.IRModule:
    """The convolution between changes of layout."""
    lanes = target.machine.lanes("float32")
    module = _convolution(extents, extents.out_blocks * lanes)
    tiling = algorithm_of(knobs, extents)
    with target.tvm_target:
        for step in graph_passes(lanes, choose_tiling=lambda _extents: tiling):
            module = step.run(module)
    return module


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

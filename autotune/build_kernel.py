"""From a candidate to machine code."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import tvm
from tvm import ir, tirx

from ..passes.compute.strassen import RIGHT
from ..passes.compute.winograd import winograd_matrices
from ..passes.pipeline import forbid_aliasing
from ..targets.cpu.kernel_costs import buffers, static_extents
from ..targets.cpu.kernel_identity import KernelIdentity
from ..targets.cpu.schedule_kernels import schedule_kernel, schedule_of
from ..targets.cpu.templates.strassen_matmul import transformed_weight
from ..targets.cpu.templates.winograd_conv2d import transformed_filters
from ..targets.cpu.tir_pipeline import TIR_PIPELINE
from .measurement import KERNEL_NAME, ArgumentSpec, BuiltKernel, Candidate, Knobs


def build_kernel(candidate: Candidate) -> BuiltKernel:
    """Schedules, compiles and links a candidate.

    Raises:
        ValueError: the candidate's knobs are no point of its template's space, or its extents are symbolic.
        Exception: whatever TVM or the linker raises; the tuner records it as a build error.
    """
    started = time.perf_counter()
    function = ir.load_json(candidate.kernel)
    copies = candidate.copies or (1,) * len(function.params)
    arguments = tuple(
        replace(argument, copies=count)
        for argument, count in zip(_with_transforms(function), copies, strict=True)
    )
    scheduled = schedule_kernel(function, candidate.target.machine, FixedChoice(candidate.knobs)).function
    with candidate.target.tvm_target:
        module = forbid_aliasing()(
            tvm.IRModule({KERNEL_NAME: scheduled.with_attr("global_symbol", KERNEL_NAME)})
        )
    library = _link(tvm.compile(module, candidate.target.tvm_target, tir_pipeline=TIR_PIPELINE))
    return BuiltKernel(library, arguments, time.perf_counter() - started)


@dataclass(frozen=True)
class FixedChoice:
    """Gives every kernel the same knobs."""

    chosen: Knobs | None

    def knobs(self, kernel: KernelIdentity, default: Knobs) -> Knobs | None:
        """The knobs, for any kernel."""
        return self.chosen

    def refuse(self, kernel: KernelIdentity, reason: str) -> None:
        """Raises ValueError."""
        raise ValueError(reason)


def _with_transforms(function: tirx.PrimFunc) -> Iterator[ArgumentSpec]:
    """The arguments of ``function``; weights in the form of an algorithm are marked as such."""
    filters, right = transformed_filters(schedule_of(function)), transformed_weight(schedule_of(function))
    for param, argument in zip(function.params, kernel_arguments(function), strict=True):
        if filters is not None and param.same_as(filters.parameter):
            G = winograd_matrices(filters.tile).filter
            yield replace(argument, windows=tuple(map(tuple, G.tolist())))
        elif right is not None and param.same_as(right):
            yield replace(argument, quadrants=tuple(map(tuple, RIGHT.tolist())))
        else:
            yield argument


def kernel_arguments(function: tirx.PrimFunc) -> tuple[ArgumentSpec, ...]:
    """What a call of ``function`` takes. Raises ValueError where an extent is symbolic."""
    arguments = []
    for buffer in buffers(function):
        extents = static_extents(buffer)
        if extents is None:
            raise ValueError("a kernel with symbolic extents cannot be measured")
        arguments.append(ArgumentSpec(extents, str(buffer.dtype)))
    if len(arguments) != len(function.params):
        raise ValueError("a kernel that takes scalars cannot be measured")
    return tuple(arguments)


def _link(executable: tvm.runtime.Executable) -> bytes:
    with tempfile.TemporaryDirectory(prefix="relaxc-") as folder:
        path = Path(folder) / "kernel.so"
        executable.export_library(str(path))
        return path.read_bytes()

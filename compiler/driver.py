"""The whole way of a model, from its file to an artifact, on one screen."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import tvm
from tvm import relax

from .. import __version__
from ..autotune.asked import Asked
from ..autotune.records import TargetKey
from ..autotune.tuned_kernels import TunedKernels
from ..frontends.imported_model import ImportedModel
from ..frontends.onnx import import_onnx
from ..passes.compute.winograd import Tiling
from ..passes.fuse_separable_conv2d import ChainExtents, ChooseChain
from ..passes.lift_constants import LiftedModule, lift_constants
from ..passes.lift_workspace import lift_workspace
from ..passes.lower_strassen_matmul import MatmulExtents, never_strassen
from ..passes.lower_winograd_conv2d import ChooseTiling, Conv2dExtents, always_direct
from ..passes.pipeline import graph_passes, lower_allocations, lower_kernel_calls
from ..passes.shared_results import shared_results
from ..runtime import Executable
from ..runtime.artifact import Artifact
from ..runtime.errors import RelaxcError, TargetError
from ..runtime.processor import default_threads, missing_features
from ..runtime.signature import PlacedTensor, Signature
from ..targets import registry
from ..targets.cpu.batch_costs import group_images
from ..targets.cpu.dot_products import packing_for
from ..targets.cpu.machine import Machine, required_features
from ..targets.cpu.schedule_kernels import ScheduledModule, schedule_kernels
from ..targets.cpu.separable_costs import choose_chain
from ..targets.cpu.tir_pipeline import TIR_PIPELINE
from ..targets.cpu.winograd_costs import choose_tiling
from ..targets.registry import CpuTarget
from . import parameter_order  # noqa: F401 - kernels get the same parameters in every process
from .artifact_writer import place_weights, write_artifact
from .options import CompileOptions
from .pass_runner import run_passes

Array = np.ndarray[Any, Any]
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""The precisions of the contract that are available, and the types of the values between kernels."""
Model: TypeAlias = str | PathLike[str] | onnx.ModelProto


@dataclass(frozen=True)
class FusedModel:
    """A model whose ``main`` calls fused kernels that are not scheduled yet.

    Attributes:
        convolutions, products, chains: those that several algorithms could compute, with the number of their
            calls.
    """

    imported: ImportedModel
    target: CpuTarget
    module: tvm.IRModule
    convolutions: Mapping[Conv2dExtents, int]
    products: Mapping[MatmulExtents, int]
    chains: Mapping[ChainExtents, int]


@dataclass(frozen=True)
class GeneratedCode:
    """The artifact's library, and which of the tensors of its ``main`` are in the workspace.

    Attributes:
        workspace, results, shared: as in the signature.
    """

    library: relax.VMExecutable
    workspace: tuple[PlacedTensor, ...]
    results: tuple[int | None, ...]
    shared: tuple[int, ...]


@dataclass(frozen=True)
class LoweredModel:
    """A model on its way, ready for code generation."""

    imported: ImportedModel
    target: CpuTarget
    lifted: LiftedModule
    scheduled: ScheduledModule


def compile(
    model: Model,
    target: str | Mapping[str, Any] = "native",
    shapes: Mapping[str, Sequence[int]] | None = None,
    static_inputs: Mapping[str, Array] | None = None,
    precision: str = "fp32",
    calibration: Iterable[Mapping[str, Array]] | None = None,
    tuning_records: str | PathLike[str] | TunedKernels | None = None,
    *,
    options: CompileOptions | None = None,
) -> Executable:
    """Compiles a model and loads the result, which can only be saved if it is for another CPU.

    Args:
        model: a path, or an ``onnx.ModelProto``.
        target: a name of ``relaxc targets``, or a TVM target as a dict.
        shapes: input name to shape; binds symbolic dimensions.
        static_inputs: input name to value; the value becomes part of the code.
        precision: a key of ``PRECISIONS``: what the values between kernels are rounded to. Inputs and outputs
            keep their types.
        calibration: batches for int8.
        tuning_records: path of the tuner's records, or what was read of them.
        options: see ``CompileOptions``.

    Raises:
        RelaxcError: one of its subclasses, saying what is wrong with the model, the target or the options.
    """
    options = options or CompileOptions()
    lowered = lower(model, target, shapes, static_inputs, precision, calibration, tuning_records, options)
    options.report("generating code")
    code = _generate_code(lowered)
    folder = tempfile.TemporaryDirectory(prefix="relaxc-")
    artifact = Path(folder.name) / "model.so"
    _write(artifact, code, lowered, precision)
    executable = Executable(Artifact(artifact))
    if not missing_features(required_features(lowered.target.machine)):
        executable.prepare()
    weakref.finalize(executable, folder.cleanup)
    return executable


def lower(
    model: Model,
    target: str | Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]] | None,
    static_inputs: Mapping[str, Array] | None,
    precision: str,
    calibration: Iterable[Mapping[str, Array]] | None,
    tuning_records: str | PathLike[str] | TunedKernels | None,
    options: CompileOptions,
) -> LoweredModel:
    """Everything before code generation: import, passes, schedules. Arguments as in ``compile``."""
    if calibration is not None:
        raise RelaxcError("calibration is for int8, which is not available yet: compile without it")
    resolved = registry.resolve(target)
    tuned = _tuned_kernels(tuning_records, resolved)
    fused = fuse(model, target, shapes, static_inputs, options, precision, tuned)
    options.report("scheduling the kernels")
    scheduled = schedule_kernels(fused.module, fused.target.machine, tuned)
    for notice in tuned.notices if tuned else ():
        options.notice(notice)
    return LoweredModel(fused.imported, fused.target, lift_constants(scheduled.module), scheduled)


def fuse(
    model: Model,
    target: str | Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]] | None,
    static_inputs: Mapping[str, Array] | None,
    options: CompileOptions,
    precision: str = "fp32",
    tuned: TunedKernels | None = None,
) -> FusedModel:
    """Everything before the schedules: import and graph passes.

    Arguments as in ``compile``; ``tuned`` knows better than the cost model which algorithms convolve fastest.
    """
    _refuse_unavailable(precision)
    resolved = registry.resolve(target)
    _require_conversions(precision, resolved)
    options.report("importing the model")
    imported = import_onnx(model, shapes, static_inputs)
    options.report("optimising the graph")
    direct = precision != "fp32" or not options.winograd
    choose = Asked(always_direct if direct else _algorithms(resolved.machine, tuned))
    plain = precision != "fp32" or not options.strassen
    choose_strassen: Asked[MatmulExtents, bool] = Asked(
        never_strassen if plain or tuned is None else tuned.strassen
    )
    packing = packing_for(PRECISIONS[precision], resolved.machine)
    group = partial(group_images, machine=resolved.machine)
    dtype = PRECISIONS[precision]
    fuse_chain = Asked(_chains(resolved.machine, tuned))
    passes = graph_passes(
        packing.block,
        dtype,
        choose,
        depth=packing.depth,
        group_images=group,
        choose_strassen=choose_strassen,
        choose_chain=fuse_chain,
    )
    with resolved.tvm_target:
        module = run_passes(imported.module, passes, options)
    convolutions, products = {} if direct else choose.calls, {} if plain else choose_strassen.calls
    return FusedModel(imported, resolved, module, convolutions, products, fuse_chain.calls)


def _algorithms(machine: Machine, tuned: TunedKernels | None) -> ChooseTiling:
    """The cost model's choice for each convolution, unless ``tuned`` has a better one."""

    def choose(extents: Conv2dExtents) -> Tiling | None:
        default = choose_tiling(extents, machine)
        return tuned.algorithm(extents, default) if tuned else default

    return choose


def _chains(machine: Machine, tuned: TunedKernels | None) -> ChooseChain:
    """The cost model's choice for each chain, unless ``tuned`` has a better one."""

    def choose(extents: ChainExtents) -> bool:
        default = choose_chain(extents, machine)
        return tuned.chain(extents, default) if tuned else default

    return choose


def _tuned_kernels(
    records: str | PathLike[str] | TunedKernels | None, target: CpuTarget
) -> TunedKernels | None:
    if records is None or isinstance(records, TunedKernels):
        return records
    return read_tuned_kernels(Path(records), target)


def read_tuned_kernels(records: Path, target: CpuTarget) -> TunedKernels:
    """What the tuner found for ``target`` with as many threads as a run would use here by default."""
    return TunedKernels.read(records, TargetKey(target.mcpu, default_threads()))


def _refuse_unavailable(precision: str) -> None:
    if precision not in ("fp32", "bf16", "fp16", "int8"):
        raise RelaxcError(f"unknown precision {precision!r}: choose one of fp32, bf16, fp16, int8")
    if precision not in PRECISIONS:
        raise RelaxcError(f"precision {precision!r} is not available yet: choose fp32, bf16 or fp16")


def _require_conversions(precision: str, target: CpuTarget) -> None:
    if precision == "fp16" and "f16c" not in target.machine.features:
        raise TargetError(
            f"precision 'fp16' needs F16C, which target CPU {target.mcpu!r} lacks: choose fp32, or x86-64-v3"
        )


def _generate_code(lowered: LoweredModel) -> GeneratedCode:
    target = lowered.target.tvm_target
    with target:
        kernel_calls = lower_kernel_calls()(lowered.lifted.module)
        planned = lift_workspace(kernel_calls)
        module = lower_allocations()(planned.module)
    library = relax.build(module, target, relax_pipeline=None, tir_pipeline=TIR_PIPELINE)
    return GeneratedCode(library, planned.workspace, planned.results, shared_results(kernel_calls))


def _write(path: Path, code: GeneratedCode, lowered: LoweredModel, precision: str) -> None:
    object_code = path.with_suffix(".code.so")
    code.library.export_library(str(object_code))
    weights = lowered.lifted.weights
    signature = Signature(
        inputs=lowered.imported.inputs,
        outputs=lowered.imported.outputs,
        weights=place_weights(weights),
        workspace=code.workspace,
        results=code.results,
        shared=code.shared,
        kernels=lowered.scheduled.kernels,
        target=lowered.target.description,
        cpu_features=required_features(lowered.target.machine),
        versions={"relaxc": __version__, "tvm": tvm.__version__},
        source_hash=lowered.imported.source_hash,
        precision=precision,
    )
    write_artifact(path, object_code, signature, weights)
    object_code.unlink()

"""MetaSchedule, the tuner that TVM has, as the peer: the same model, the same minutes, TVM's own pipeline.

python -m benchmarks.metaschedule_peer MODEL.onnx FOLDER     tunes until it is stopped
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule

from relaxc.frontends.onnx import import_onnx
from relaxc.runtime.processor import default_threads
from relaxc.runtime.thread_pool import call_with_threads
from relaxc.targets.registry import resolve

# More than can be measured in any time that somebody would wait.
_TRIALS = 1_000_000


def tune_for(minutes: float, model: Path, shapes: Mapping[str, Sequence[int]], artifact: Path) -> None:
    """Tunes ``model``, whose dimensions ``shapes`` binds, for some minutes, then compiles it."""
    folder = artifact.with_suffix(".database")
    folder.mkdir(exist_ok=True)
    bound = [f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items()]
    command = [sys.executable, "-m", "benchmarks.metaschedule_peer", str(model), str(folder), *bound]
    # A session of its own: MetaSchedule's workers outlive it, and would go on using the cores.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=minutes * 60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _compile(model, shapes, folder, artifact)


def artifact_call(artifact: Path, feed: Path) -> Callable[[], object]:
    """One run of what ``tune_for`` compiled."""
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(artifact)), tvm.cpu())
    arrays = [tvm.runtime.tensor(array) for array in np.load(feed).values()]
    return lambda: call_with_threads(default_threads(), machine["main"], *arrays)


def _module(model: Path, shapes: Mapping[str, Sequence[int]]) -> tvm.IRModule:
    """TVM's kernels, fused by TVM."""
    with _target():
        module = relax.get_pipeline("zero")(import_onnx(model, shapes, None).module)
        return relax.transform.FoldConstant()(module)


def _target() -> Any:
    return tvm.target.Target({"kind": "llvm", "mcpu": resolve("native").mcpu, "num-cores": default_threads()})


def _tune(model: Path, shapes: Mapping[str, Sequence[int]], folder: Path) -> None:
    meta_schedule.relax_integration.tune_relax(
        mod=_module(model, shapes),
        params={},
        target=_target(),
        work_dir=str(folder),
        max_trials_global=_TRIALS,
        seed=0,
    )


def _compile(model: Path, shapes: Mapping[str, Sequence[int]], folder: Path, artifact: Path) -> None:
    with _target(), tvm.transform.PassContext(opt_level=3):
        module = relax.transform.MetaScheduleApplyDatabase(str(folder))(_module(model, shapes))
        relax.build(module, _target()).export_library(str(artifact))


def _parse(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, extents = text.rpartition(":")
    return name, tuple(map(int, extents.split(",")))


if __name__ == "__main__":
    _tune(Path(sys.argv[1]), dict(map(_parse, sys.argv[3:])), Path(sys.argv[2]))

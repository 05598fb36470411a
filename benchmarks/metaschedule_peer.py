"""MetaSchedule, the tuner that TVM has, as the peer: the same model, the same minutes, TVM's own pipeline.

MetaSchedule goes over all kernels once before it stores what it measured first, and takes 64 schedules of a
kernel at a time: models of 20 kernels need more than ten minutes for that. Here it takes 16 at a time, and
what it measured is stored when the time is over.

python -m benchmarks.metaschedule_peer SECONDS MODEL.onnx FOLDER [INPUT:EXTENT,...]    tunes so long
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.error import register_error
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule
from tvm.s_tir.meta_schedule.runner import LocalRunner, PyRunner, RunnerFuture, RunnerInput
from tvm.s_tir.meta_schedule.runner.local_runner import LocalRunnerFuture

from relaxc.frontends.onnx import import_onnx
from relaxc.runtime.processor import default_threads
from relaxc.runtime.thread_pool import call_with_threads
from relaxc.targets.registry import resolve

# More than can be measured in any time that somebody would wait.
_TRIALS = 1_000_000
_TRIALS_OF_A_ROUND = 16
_GRACE = 120.0
"""Seconds for importing the model before its time begins, and for the search that the end interrupts."""


@register_error
class _TimeOverError(Exception):
    """There is no time for another round of measurements."""


@derived_object
class _RunnerUntil(PyRunner):  # type: ignore[misc]
    """Runs candidates as TVM's local runner does, until the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._local = LocalRunner()
        self._end = time.monotonic() + seconds

    def run(self, runner_inputs: list[RunnerInput]) -> list[RunnerFuture]:
        """The round that the end falls into keeps what it measured; the next raises ``_TimeOverError``."""
        if self._is_over():
            raise _TimeOverError
        return [self._run_in_time(candidate) for candidate in runner_inputs]

    def _run_in_time(self, candidate: RunnerInput) -> RunnerFuture:
        if self._is_over():
            return LocalRunnerFuture(res=None, error_message="the time is over")
        (future,) = self._local.run([candidate])
        return future

    def _is_over(self) -> bool:
        return time.monotonic() > self._end


def tune_for(minutes: float, model: Path, shapes: Mapping[str, Sequence[int]], artifact: Path) -> None:
    """Tunes ``model``, whose dimensions ``shapes`` binds, for some minutes, then compiles it."""
    folder = artifact.with_suffix(".database")
    folder.mkdir(exist_ok=True)
    bound = [f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items()]
    seconds = minutes * 60
    command = [sys.executable, "-m", __spec__.name, str(seconds), str(model), str(folder), *bound]
    # A session of its own: MetaSchedule's workers outlive it, and would go on using the cores.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds + _GRACE)
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


def _tune(seconds: float, model: Path, shapes: Mapping[str, Sequence[int]], folder: Path) -> None:
    scheduler = meta_schedule.TaskScheduler.create("gradient", seed=0)
    with contextlib.suppress(_TimeOverError):
        meta_schedule.relax_integration.tune_relax(
            mod=_module(model, shapes),
            params={},
            target=_target(),
            work_dir=str(folder),
            max_trials_global=_TRIALS,
            num_trials_per_iter=_TRIALS_OF_A_ROUND,
            runner=_RunnerUntil(seconds),
            task_scheduler=scheduler,
            seed=0,
        )
    for task in range(len(scheduler.tasks_)):
        scheduler.touch_task(task)  # stores what was measured and not yet read


def _compile(model: Path, shapes: Mapping[str, Sequence[int]], folder: Path, artifact: Path) -> None:
    with _target(), tvm.transform.PassContext(opt_level=3):
        module = relax.transform.MetaScheduleApplyDatabase(str(folder))(_module(model, shapes))
        relax.build(module, _target()).export_library(str(artifact))


def _parse(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, extents = text.rpartition(":")
    return name, tuple(map(int, extents.split(",")))


if __name__ == "__main__":
    _tune(float(sys.argv[1]), Path(sys.argv[2]), dict(map(_parse, sys.argv[4:])), Path(sys.argv[3]))

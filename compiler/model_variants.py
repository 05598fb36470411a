"""The same model by several choices of algorithms: compiled, and run in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..autotune.isolation import Failure, FailureKind, IsolatedCalls
from ..autotune.measurement import Knobs, Measurement, RunOptions, Status
from ..autotune.standings import Standing
from ..autotune.tuned_kernels import TunedKernels
from ..runtime.artifact import Artifact
from ..runtime.processor import usable_cores
from ..targets.cpu.kernel_identity import KernelIdentity
from .model_contest import Build, runs_in_processes
from .sample_inputs import sample_inputs

_BUILD_LIMIT_SECONDS = 600.0

Choices = Mapping[KernelIdentity, Knobs]
"""The algorithms of those operators that do not go by their default."""


@dataclass(frozen=True)
class ModelVariants:
    """A model that can be compiled with other algorithms.

    Attributes:
        build: compiles it; can be pickled, since each compilation has a process of its own.
        defaults: of every operator with a choice.
        seconds: of runs in each process.
        options: how many threads run the model, and how far results may differ.
    """

    build: Build
    defaults: Mapping[KernelIdentity, Knobs]
    seconds: float
    options: RunOptions

    def compare(self, variants: Sequence[Choices], processes: int) -> list[Measurement]:
        """Whole runs by each of ``variants``, in turns, in so many processes.

        All fail where the first does.
        """
        with TemporaryDirectory(prefix="relaxc-") as folder:
            paths = [Path(folder) / f"{number}.so" for number in range(len(variants))]
            outcomes = self._built(variants, paths)
            built = [path for path, failed in zip(paths, outcomes, strict=True) if failed is None]
            if outcomes[0] is not None:
                return [outcomes[0]] * len(variants)
            inputs = sample_inputs(Artifact(paths[0]).signature.inputs, {})
            measured = iter(runs_in_processes(built, inputs, self.seconds, self.options, processes))
            return [next(measured) if failed is None else failed for failed in outcomes]

    def _built(self, variants: Sequence[Choices], paths: Sequence[Path]) -> list[Measurement | None]:
        """Compiles all of them, as many at a time as there are cores; why one could not be."""
        calls = IsolatedCalls(build_artifact, _BUILD_LIMIT_SECONDS, usable_cores())
        chosen = [(self.build, self._tuned(variant)) for variant in variants]
        answers = calls([(*each, path) for each, path in zip(chosen, paths, strict=True)])
        return [_failed(answer) for answer in answers]

    def _tuned(self, choices: Choices) -> TunedKernels:
        """What records would say in which ``choices`` are champions, and nothing else is."""
        return TunedKernels(
            {kernel: Standing(self.defaults[kernel], knobs, 1.0, 0.0) for kernel, knobs in choices.items()}
        )


def build_artifact(build: Build, tuned: TunedKernels, path: Path) -> None:
    """Compiles a model."""
    build(tuning_records=tuned).save(path)


def _failed(answer: Failure | None) -> Measurement | None:
    if answer is None:
        return None
    status = Status.TIMEOUT if answer.kind is FailureKind.TIMEOUT else Status.BUILD_ERROR
    return Measurement(status, message=f"build: {answer.message}")

"""A loaded artifact, ready to run."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .artifact import Artifact
from .atomic_file import atomic_file
from .errors import ArtifactError, RelaxcError
from .input_check import InputCheck
from .library import load_runtime, tvm_version
from .processor import default_threads, missing_features
from .signature import ALIGNMENT, Signature, TensorSpec
from .tensors import end_of, tensor_at
from .thread_pool import call_with_threads
from .virtual_machine import Instrument, VirtualMachine


@dataclass(frozen=True)
class _LoadedArtifact:
    """What the machines of one artifact share: its library, and its weights with their addresses."""

    library: Any
    weights: list[Any]
    weight_span: range


class Executable:
    """A compiled model. Any number of threads may call ``run`` at once.

    A model that was compiled for another CPU can be saved, but not be prepared or run.

    Attributes:
        inputs, outputs: names, shapes and dtypes, in the model's order.
        num_threads: threads that one call of ``run`` uses. Concurrent callers use so many each.
    """

    def __init__(self, artifact: Artifact, num_threads: int | None = None) -> None:
        """Takes an opened artifact; use ``load`` to open one.

        Raises:
            RelaxcError: ``num_threads`` is less than 1.
        """
        if num_threads is not None and num_threads < 1:
            raise RelaxcError(f"num_threads must be at least 1, got {num_threads}")
        self.num_threads = num_threads or default_threads()
        self._artifact = artifact
        self._input_check = InputCheck(artifact.signature.inputs)
        self._loading = threading.Lock()
        self._loaded: _LoadedArtifact | None = None
        self._idle: deque[VirtualMachine] = deque()

    def prepare(self) -> None:
        """Loads what a run needs; a run does so itself if need be.

        Raises:
            ArtifactError: the artifact cannot run on this machine or with this TVM.
        """
        self._prepared()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._signature.outputs

    @property
    def metadata(self) -> dict[str, Any]:
        """The signature as plain data: kernels, target, versions, CPU features, source hash and the rest."""
        plain: dict[str, Any] = json.loads(self._signature.to_json())
        return plain

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the model once.

        Args:
            inputs: an array for every input, a list of arrays for a sequence, None for an absent optional;
                arrays that are not contiguous are copied.

        Returns:
            An array for every output, in the model's order; a sequence comes as a list, an absent optional
            as None. The arrays are the caller's own: a later call does not touch them.

        Raises:
            ShapeError: a name, dtype, rank or extent does not fit the model.
            RelaxcError: the model failed.
        """
        return self._run(self._input_check.arrays(inputs))

    def run_instrumented(self, inputs: Mapping[str, Any], instrument: Instrument) -> dict[str, Any]:
        """Runs the model once and calls ``instrument(function, name, before, result, *arguments)`` before
        and after each call of a kernel or of a function of the runtime. Raises like ``run``.
        """
        return self._run(self._input_check.arrays(inputs), instrument)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Copies the artifact to ``path``; the file appears whole or not at all.

        Raises:
            ArtifactError: the file cannot be written.
        """
        with atomic_file(path) as stream:
            self._artifact.copy_to(stream.fileno())

    def __repr__(self) -> str:
        names = ", ".join(spec.name for spec in self.inputs), ", ".join(spec.name for spec in self.outputs)
        return f"<Executable {self._artifact.path.name}: {names[0]} -> {names[1]}>"

    @property
    def _signature(self) -> Signature:
        return self._artifact.signature

    def _prepared(self) -> _LoadedArtifact:
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self._artifact)
            return self._loaded

    def _run(
        self, arrays: Sequence[np.ndarray[Any, Any]], instrument: Instrument | None = None
    ) -> dict[str, Any]:
        try:
            machine = self._idle.pop()
        except IndexError:
            code = self._prepared()
            machine = VirtualMachine(code.library, self._signature, code.weights, code.weight_span)
        results = call_with_threads(self.num_threads, machine.run, arrays, instrument)
        # Not after an exception: if that is an interrupt, another thread may still be at work in the machine.
        self._idle.append(machine)
        return {spec.name: value for spec, value in zip(self.outputs, results, strict=True)}


def load(path: str | os.PathLike[str], num_threads: int | None = None) -> Executable:
    """Loads an artifact. Neither TVM's compiler nor onnx is needed or imported.

    Args:
        path: a file made by ``relaxc compile`` or ``Executable.save``.
        num_threads: threads for one call; where None, what ``TVM_NUM_THREADS`` says, else all
            the cores that the process may use.

    Raises:
        ArtifactError: the file is missing, is no artifact, is damaged, or cannot run here.
    """
    executable = Executable(Artifact(path), num_threads)
    executable.prepare()
    return executable


def _load(artifact: Artifact) -> _LoadedArtifact:
    _check_machine(artifact)
    _check_versions(artifact)
    load_runtime(artifact.path.parent)
    return _LoadedArtifact(_load_library(artifact), *_map_weights(artifact))


def _check_machine(artifact: Artifact) -> None:
    if missing := missing_features(artifact.signature.cpu_features):
        raise ArtifactError(
            f"{artifact.path} needs CPU features that this machine lacks: {', '.join(missing)}; "
            "compile the model for a target without them"
        )


def _check_versions(artifact: Artifact) -> None:
    """TVM keeps its binary interface within a minor version only."""
    built, installed = artifact.signature.versions.get("tvm"), tvm_version()
    if built and installed and _minor(built) != _minor(installed):
        raise ArtifactError(
            f"{artifact.path} was compiled with TVM {built}, but TVM {installed} is installed; "
            f"compile it again or install apache-tvm {_minor(built)}"
        )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _load_library(artifact: Artifact) -> Any:
    ffi = load_runtime()
    load_from_file = ffi.get_global_func("ffi.Module.load_from_file.so")
    try:
        return load_from_file(_unused_spelling(artifact), "so")
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"cannot load {artifact.path}: {reason}; was it compiled for this machine?"
        ) from error


_spellings_lock = threading.Lock()
_spellings: dict[str, tuple[int, int]] = {}


def _unused_spelling(artifact: Artifact) -> str:
    """A path of the artifact that the dynamic loader does not take for a library it already has.

    It compares names before it looks at files: had an artifact been compiled and loaded, then compiled
    anew under the same name, loading it again would give the old code (dl_open of glibc, _dl_name_match_p).
    """
    folder, name = os.path.split(artifact.path)
    with _spellings_lock:
        for generation in itertools.count():
            spelling = os.path.join(folder, "./" * generation + name)
            if _spellings.setdefault(spelling, artifact.identity) == artifact.identity:
                return spelling
    raise AssertionError("itertools.count never ends")


def _map_weights(artifact: Artifact) -> tuple[list[Any], range]:
    """Tensors over the mapped weight section, and its addresses."""
    if not artifact.signature.weights:
        return [], range(0)
    section = np.frombuffer(artifact.weights, np.uint8)
    tensors = []
    for weight in artifact.signature.weights:
        if weight.offset % ALIGNMENT or end_of(weight) > len(section):
            raise ArtifactError(f"{artifact.path} is damaged: a weight lies outside of its section")
        tensors.append(tensor_at(weight, section))
    start = section.ctypes.data
    return tensors, range(start, start + len(section))

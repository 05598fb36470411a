"""One comparison of a compiled model with a reference, as ``relaxc verify`` makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from ...frontends.onnx.load import load_model
from ...runtime import Executable, load
from ...runtime.errors import RelaxcError
from ...runtime.signature import TensorSpec
from ..npz_files import read_npz
from .feeds import complete_feed, declared_specs
from .first_drift import Drift, find_first_drift
from .output_error import OutputError, Tolerance, compare_outputs
from .recompile import compile_whole, compiler_like
from .reduction import FailingModel, Judge, reduce_model
from .reference import Feed, Reference, choose_reference


@dataclass
class Comparison:
    """A model, what was made of it, and inputs for both.

    Attributes:
        model: the model, its nodes in topological order.
        executable: the compiled model, or the error with which compiling it ended.
        feed: a value for every input of the model.
        judge: the reference, the tolerance, and how to compile parts of the model.
        of_another_file: whether the artifact says that it was compiled from another file.
        errors: by output, once ``failure`` has been called.
    """

    model: onnx.ModelProto
    executable: Executable | RelaxcError
    feed: Feed
    judge: Judge
    of_another_file: bool = False
    errors: list[OutputError] = field(default_factory=list)

    @classmethod
    def prepare(
        cls,
        model_path: Path,
        artifact: Path | None,
        inputs: Path | None,
        shapes: Mapping[str, Sequence[int]],
        seed: int,
        tolerance: Tolerance,
        reference: Reference | None,
    ) -> Comparison:
        """Loads or compiles the model and completes its inputs.

        Raises:
            RelaxcError: a file cannot be read, the inputs do not fit, or the reference is not installed.
        """
        chosen = choose_reference(reference)
        loaded = load_model(model_path)
        model = loaded.proto
        executable = load(artifact) if artifact is not None else _compiled(model)
        specs = _specs(model, executable)
        given = read_npz(inputs, specs) if inputs is not None else {}
        feed = complete_feed(model, specs, given, shapes, seed)
        static = {name: value for name, value in feed.items() if name not in {s.name for s in specs}}
        alike = compiler_like(executable, static) if isinstance(executable, Executable) else compile_whole
        judge = Judge(chosen, alike, tolerance)
        return cls(model, executable, feed, judge, _is_foreign(artifact, executable, loaded.source_hash))

    @property
    def wrong(self) -> bool:
        """Whether outputs disagree, once ``failure`` has been called."""
        return any(not error.agrees for error in self.errors)

    def failure(self) -> str:
        """Runs both. What is wrong in one line, else an empty string.

        Raises:
            RelaxcError: the reference cannot run the model.
        """
        if isinstance(self.executable, RelaxcError):
            return str(self.executable)
        expected = self.judge.reference.run(self.model, self.feed)
        try:
            actual = _run(self.executable, self.feed)
        except RelaxcError as error:
            return str(error)
        self.errors = compare_outputs(expected, actual, self.judge.tolerance)
        wrong = [str(error) for error in self.errors if not error.agrees]
        if not wrong:
            return ""
        counted = f"{len(wrong)} of {len(self.errors)} outputs"
        hint = "; the artifact was compiled from another file" if self.of_another_file else ""
        return f"{counted} differ from {self.judge.reference.label}: {'; '.join(wrong)}{hint}"

    def first_drift(self, report: Callable[[str], None]) -> Drift | None:
        """As ``find_first_drift`` of this model."""
        judge = self.judge
        return find_first_drift(
            self.model, self.feed, judge.reference, judge.compile_model, judge.tolerance, report
        )

    def reduce(self, report: Callable[[str], None], suspect: Drift | None) -> FailingModel:
        """As ``reduce_model`` of this model; a node that is known to differ saves the search."""
        position = None if suspect is None else list(self.model.graph.node).index(suspect.node)
        return reduce_model(self.model, self.feed, self.judge, report, position)


def _compiled(model: onnx.ModelProto) -> Executable | RelaxcError:
    try:
        return compile_whole(model)
    except RelaxcError as error:
        return error


def _is_foreign(artifact: Path | None, executable: Executable | RelaxcError, source_hash: str) -> bool:
    if artifact is None or not isinstance(executable, Executable):
        return False
    return bool(executable.metadata["source_hash"] != source_hash)


def _specs(model: onnx.ModelProto, executable: Executable | RelaxcError) -> Sequence[TensorSpec]:
    return executable.inputs if isinstance(executable, Executable) else declared_specs(model)


def _run(executable: Executable, feed: Feed) -> dict[str, Any]:
    return executable.run({spec.name: feed[spec.name] for spec in executable.inputs})

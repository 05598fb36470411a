"""Parts of generated models that once failed, and are tests from then on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from relaxc.compiler.npz_files import write_npz
from relaxc.compiler.verify.output_error import Tolerance
from relaxc.compiler.verify.recompile import compile_whole
from relaxc.compiler.verify.reduction import AGREES, DISAGREES, Judge, reduce_model
from relaxc.compiler.verify.reference import Reference
from relaxc.runtime.errors import RelaxcError

from ..outcome import Outcome, failure
from .generated import GeneratedModel
from .judgement import differences, excuse

FOLDER = Path(__file__).parents[2] / "tests" / "frontends" / "onnx" / "fuzz_cases"

_LONGEST_NAME = 60


@dataclass(frozen=True)
class FuzzJudge(Judge):
    """Says how a part fares, by the rules for generated models: what is excused does not count."""

    def verdict(self, model: onnx.ModelProto, feed: Mapping[str, Any]) -> str:
        """As ``Judge.verdict``."""
        expected = self.reference.run(model, feed)
        try:
            actual = self.compile_model(model).run(feed)
        except Exception as error:
            return type(error).__name__
        if not differences(expected, actual) or excuse(model, feed, expected, actual):
            return AGREES
        return DISAGREES


def keep_regression(folder: Path) -> Callable[[GeneratedModel], Outcome]:
    """A function that cuts a failing model down, and stores what is left in a folder, with its data."""

    def reduce(case: GeneratedModel) -> Outcome:
        error = RelaxcError("no reference runs it")
        for reference in Reference:
            judge = FuzzJudge(reference, compile_whole, Tolerance())
            try:
                smallest = reduce_model(case.model, case.feed, judge)
                expected = reference.run(smallest.model, smallest.feed)
            except RelaxcError as failed:
                error = failed
                continue
            path = folder / f"{_name(smallest.model)}.onnx"
            _store(path, smallest.model, smallest.feed, expected)
            return Outcome(True, reason=f"cut down to {path}")
        return failure("not reduced", str(error))

    return reduce


def keep_whole(case: GeneratedModel, folder: Path) -> None:
    """Stores a model that cannot be cut down, such as one that ends the process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"whole-{case.name}.onnx"
    shutil.copy(case.path, path)
    write_npz(path.with_suffix(".npz"), case.feed)
    write_npz(path.with_suffix(".expected.npz"), case.expected)


def _store(path: Path, model: onnx.ModelProto, feed: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    write_npz(path.with_suffix(".npz"), feed)
    write_npz(path.with_suffix(".expected.npz"), expected)


def _name(model: onnx.ModelProto) -> str:
    """The operators' names: of parts that fail alike, one is kept."""
    name = "-".join(dict.fromkeys(node.op_type.lower() for node in model.graph.node))
    return name[:_LONGEST_NAME]

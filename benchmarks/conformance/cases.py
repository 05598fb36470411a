"""The cases of onnx's backend suite, which the installed onnx makes or carries: no network is needed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

SUITES = ("node", "simple", "pytorch-converted", "pytorch-operator")

# test_x, written out in simpler operators, is called test_x_expanded or test_x_expanded_ver18.
_EXPANDED = re.compile(r"_expanded(_ver\d+)?$")


@dataclass(frozen=True)
class DataSet:
    """Values for a model's first inputs, and what its outputs must be: arrays, lists of them, or None."""

    inputs: Sequence[Any]
    outputs: Sequence[Any]


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: unique in all suites.
        suite: one of ``SUITES``.
        folder: where model and data lie, or None where onnx makes them in memory.
        rtol, atol: tolerances, as onnx's own runner applies them.
    """

    name: str
    suite: str
    rtol: float
    atol: float
    folder: Path | None = None
    made_model: onnx.ModelProto | None = None
    made_data: Sequence[tuple[Sequence[Any], Sequence[Any]]] = ()

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The model."""
        if self.made_model is not None:
            return self.made_model
        assert self.folder is not None
        return onnx.load(self.folder / "model.onnx")

    @property
    def unexpanded_name(self) -> str:
        """The name of the case that this one is the expansion of, else its own."""
        return _EXPANDED.sub("", self.name)

    def data_sets(self) -> Iterator[DataSet]:
        """All of its data."""
        for inputs, outputs in self.made_data:
            yield DataSet([_array(value) for value in inputs], [_array(value) for value in outputs])
        if self.folder is not None:
            for folder in sorted(self.folder.glob("test_data_set_*")):
                graph = self.model.graph
                yield DataSet(
                    _read_values(folder, "input", graph.input), _read_values(folder, "output", graph.output)
                )


def load_cases() -> list[Case]:
    """All cases of all suites, in the suites' order; the same ones, with the same numbers, each time."""
    return [case for suite in SUITES for case in _load_suite(suite)]


def _load_suite(suite: str) -> list[Case]:
    np.random.seed(0)  # onnx's cases draw from the global generator
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind=suite)
    cases = [
        Case(
            name=test.name,
            suite=suite,
            rtol=test.rtol,
            atol=test.atol,
            folder=Path(test.model_dir) if test.model_dir else None,
            made_model=test.model,
            made_data=test.data_sets or (),
        )
        for test in tests
    ]
    return sorted(cases, key=lambda case: case.name)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _read_values(folder: Path, prefix: str, declared: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    count = len(list(folder.glob(f"{prefix}_*.pb")))
    return [_read_value((folder / f"{prefix}_{i}.pb").read_bytes(), declared[i]) for i in range(count)]


def _read_value(data: bytes, declared: onnx.ValueInfoProto) -> Any:
    if declared.type.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if declared.type.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))

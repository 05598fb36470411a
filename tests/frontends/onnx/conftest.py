"""Compile a model by the public API, run it, and compare with an independent reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import relaxc

Arrays = Mapping[str, np.ndarray]


def reference_results(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, dict(feeds))]


def runtime_results(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    return list(session.run(None, {name: value for name, value in feeds.items() if name in wanted}))


Reference = Callable[[onnx.ModelProto, Arrays], list[np.ndarray]]
REFERENCES: Mapping[str, Reference] = {"onnx": reference_results, "onnxruntime": runtime_results}


def assert_same(
    actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    assert len(actual) == len(expected)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine.astype(np.float64), theirs.astype(np.float64), rtol, atol)


@pytest.fixture
def check() -> Callable[..., relaxc.Executable]:
    """Compiles a model once and compares it with the reference on each of the feeds in turn."""

    def run(
        model: onnx.ModelProto,
        *feeds: Arrays,
        reference: str = "onnx",
        shapes: Mapping[str, Sequence[int]] | None = None,
        static_inputs: Arrays | None = None,
        **tolerance: float,
    ) -> relaxc.Executable:
        executable = relaxc.compile(model, shapes=shapes, static_inputs=static_inputs)
        for feed in feeds:
            given = {spec.name: np.asarray(feed[spec.name]) for spec in executable.inputs}
            results = list(executable.run(given).values())
            assert_same(results, REFERENCES[reference](model, feed), **tolerance)
        return executable

    return run


@pytest.fixture
def graph() -> Callable[..., onnx.ModelProto]:
    """Makes a model: inputs and outputs as name -> (dtype, shape), a str in a shape is symbolic."""

    def make(
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, tuple[Any, Sequence[int | str | None] | None]],
        outputs: Sequence[str],
        opset: int = 18,
        constants: Arrays | None = None,
    ) -> onnx.ModelProto:
        def value(name: str, dtype: Any, shape: Any) -> onnx.ValueInfoProto:
            element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            return onnx.helper.make_tensor_value_info(name, element, shape)

        body = onnx.helper.make_graph(
            list(nodes),
            "graph",
            [value(name, *spec) for name, spec in inputs.items()],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
        )
        imports = [onnx.helper.make_opsetid("", opset)]
        model: onnx.ModelProto = onnx.helper.make_model(body, opset_imports=imports, ir_version=9)
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
        return inferred

    return make

"""The builder of benchmark graphs."""

from __future__ import annotations

import numpy as np
import onnx

from benchmarks.models.graph_builder import GraphBuilder, parameter_count
from benchmarks.models.layers import batch_norm, gelu, reshape
from benchmarks.onnxruntime_peer import OnnxRuntimeModel


def _evaluate(g: GraphBuilder, value: str, x: np.ndarray, rank: int) -> np.ndarray:
    model = g.build({"y": value}, {"y": [f"d{axis}" for axis in range(rank)]})
    return OnnxRuntimeModel(model).run({"x": x})["y"]


def _graph(batch: str = "batch") -> tuple[onnx.ModelProto, GraphBuilder]:
    g = GraphBuilder("norm")
    x = g.input("x", (batch, 3, 4, 4))
    y = batch_norm(g, "bn", x, 3)
    return g.build({"y": y}, {"y": (batch, 3, 4, 4)}), g


def test_the_same_seed_gives_the_same_model() -> None:
    assert _graph()[0].SerializeToString() == _graph()[0].SerializeToString()


def test_running_statistics_and_constants_are_not_parameters() -> None:
    model, g = _graph()
    g.constant([1, 2, 3])
    assert parameter_count(model) == 3 + 3


def test_gelu_is_the_exact_one() -> None:
    g = GraphBuilder("gelu")
    x = np.linspace(-4, 4, 9, dtype=np.float32)
    y = _evaluate(g, gelu(g, g.input("x", (9,))), x, rank=1)
    # Values of x * normal_cdf(x) to six digits, from tables of the normal distribution.
    np.testing.assert_allclose(y[4:7], [0, 0.841345, 1.954500], atol=1e-6)


def test_reshape_reads_unknown_extents_at_run_time() -> None:
    g = GraphBuilder("reshape")
    value = reshape(g, g.input("x", ("n", 6)), (None, 2, 3))
    assert _evaluate(g, value, np.zeros((5, 6), np.float32), rank=3).shape == (5, 2, 3)

"""Operators of several domains in one model, and functions that the model itself defines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import parser

import relaxc

Check = Callable[..., Any]
X = {"x": np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)}


def test_domains_stand_side_by_side(check: Check) -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17, "ai.onnx.ml": 3, "com.microsoft": 1]>
        graph (float[n, 3] x) => (float[n, 3] y) {
            a = com.microsoft.FastGelu(x) b = ai.onnx.ml.Binarizer<threshold = 0.25>(a) y = Sub(a, b)
        }"""
    )
    check(model, X, reference="onnxruntime")


def test_each_domain_has_a_version_of_its_own(check: Check) -> None:
    """Softmax of opset 11 takes all axes from the first on together."""
    for opset, same in ((11, False), (13, True)):
        model = parser.parse_model(
            f"""<ir_version: 9, opset_import: ["": {opset}, "ai.onnx.ml": 3]>
            graph (float[2, 2, 3] v) => (float[2, 2, 3] y) {{
                b = ai.onnx.ml.Binarizer<threshold = 0.0>(v) y = Softmax<axis = 1>(b)
            }}"""
        )
        value = np.random.default_rng(4).standard_normal((2, 2, 3)).astype(np.float32)
        executable = check(model, {"v": value}, reference="onnxruntime")
        sums = executable.run({"v": value})["y"].sum(axis=1)
        assert np.allclose(sums, 1) == same


def test_local_functions_take_attributes_and_call_each_other(check: Check) -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17, "local": 1]>
        graph (float[n, 3] x) => (float[n, 3] y, float[n, 3] z) {
            y = local.twice<slope = 0.5>(x)
            z = local.leak(x)
        }
        <domain: "local", opset_import: ["": 17]>
        leak <slope: float = 0.125> (v) => (w) { w = LeakyRelu<alpha: float = @slope>(v) }
        <domain: "local", opset_import: ["": 17, "local": 1]>
        twice <slope: float = 0.25> (v) => (w) {
            t = local.leak<slope: float = @slope>(v) s = Neg(t) w = local.leak<slope: float = @slope>(s)
        }"""
    )
    check(model, X, reference="onnxruntime")


def test_names_inside_of_functions_are_their_own(check: Check) -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17, "local": 1]>
        graph (float[n, 3] x) => (float[n, 3] y) { t = Neg(x) a = local.f(t) b = local.f(a) y = Add(b, t) }
        <domain: "local", opset_import: ["": 17]> f (x) => (y) { t = Abs(x) y = Sqrt(t) }"""
    )
    check(model, X)


def test_a_function_may_use_other_domains_than_the_graph(check: Check) -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17, "local": 1, "ai.onnx.ml": 3]>
        graph (float[n, 3] x) => (float[n, 3] y) { y = local.f(x) }
        <domain: "local", opset_import: ["": 17, "ai.onnx.ml": 3]>
        f (v) => (w) { t = ai.onnx.ml.Binarizer<threshold = 0.5>(v) w = Add(t, v) }"""
    )
    check(model, X, reference="onnxruntime")


def test_operators_of_unknown_domains_are_named() -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17, "com.example": 2]>
        graph (float[n, 3] x) => (float[n, 3] y) { a = com.example.Secret(x) y = com.example.Other(a) }"""
    )
    with pytest.raises(
        relaxc.errors.UnsupportedOperatorError, match=r"com\.example\.Secret.*com\.example\.Other"
    ):
        relaxc.compile(model)


def test_the_standard_domain_has_two_names() -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["ai.onnx": 17]> graph (float[n, 3] x) => (float[n, 3] z) {
            y = ai.onnx.Relu(x) z = Neg(y)
        }"""
    )
    np.testing.assert_array_equal(relaxc.compile(model).run(X)["z"], -np.maximum(X["x"], 0))

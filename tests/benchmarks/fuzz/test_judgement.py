"""Which differences from the reference are relaxc's fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from benchmarks.fuzz.judgement import DISPUTED, RECOMPUTED, UNDEFINED, UNSTABLE, differences, excuse
from benchmarks.fuzz.undefined import undefined_nodes
from relaxc.compiler.verify.reference import Reference

Arrays = Mapping[str, Any]


def model(signature: str, body: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> graph {signature} {{ {body} }}')


def judged(
    of: onnx.ModelProto, feed: Arrays, change: float, opinions: list[dict[str, Any]] | None = None
) -> str:
    """The excuse for results that are all too large by ``change``."""
    expected = Reference.ONNXRUNTIME.run(of, feed)
    actual = {name: (value + np.asarray(change, value.dtype)) for name, value in expected.items()}
    assert differences(expected, actual)
    return excuse(of, feed, expected, actual, opinions or [])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_may_differ_by_some_roundings(dtype: Any) -> None:
    value = np.full(4, 3, dtype)
    noise = 4 * np.finfo(dtype).eps
    assert not differences({"y": value}, {"y": value * (1 + noise).astype(dtype)})
    assert differences({"y": value}, {"y": value * dtype(1.1)})


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.bool_])
def test_integers_and_booleans_must_be_equal(dtype: Any) -> None:
    ones, zeros = np.ones(3, dtype), np.zeros(3, dtype)
    assert not differences({"y": ones}, {"y": ones})
    assert [error.name for error in differences({"y": ones}, {"y": zeros})] == ["y"]


def test_types_shapes_and_missing_outputs_are_differences() -> None:
    value = np.ones(3, np.float32)
    assert differences({"y": value}, {"y": value.astype(np.float64)})
    assert differences({"y": value}, {"y": value[:2]})
    assert differences({"y": value}, {})


def test_nan_equals_only_nan() -> None:
    nan, one = np.full(2, np.nan, np.float32), np.ones(2, np.float32)
    assert not differences({"y": nan}, {"y": nan})
    assert differences({"y": nan}, {"y": one})
    assert differences({"y": one}, {"y": nan})


def test_a_plainly_wrong_result_has_no_excuse() -> None:
    sine = model("(float[4] x) => (float[4] y)", "y = Sin(x)")
    assert judged(sine, {"x": np.linspace(0, 1, 4, dtype=np.float32)}, 0.01) == ""


def test_a_wrong_shape_has_no_excuse() -> None:
    sine = model("(float[4] x) => (float[4] y)", "y = Sin(x)")
    feed = {"x": np.ones(4, np.float32)}
    expected = Reference.ONNXRUNTIME.run(sine, feed)
    assert excuse(sine, feed, expected, {"y": expected["y"][:2]}) == ""


def test_cancellation_makes_the_reference_unstable() -> None:
    cancels = model(
        "(float[4] x) => (float[4] y)",
        "big = Constant<value_float = 1e6>() sum = Add(x, big) s = Sin(sum) y = Mul(s, big)",
    )
    assert judged(cancels, {"x": np.linspace(0, 1, 4, dtype=np.float32)}, 1e4) == UNSTABLE


def test_a_difference_far_beyond_the_noise_is_no_instability() -> None:
    scaled = model(
        "(float[4] x) => (float[4] y)", "big = Constant<value_float = 1e6>() s = Sin(x) y = Mul(s, big)"
    )
    assert judged(scaled, {"x": np.linspace(0.1, 1, 4, dtype=np.float32)}, 5000.0) == ""


def test_a_value_that_is_read_twice_may_be_computed_twice() -> None:
    """A value less itself is zero whatever noise it has, but not if it is computed anew for each use."""
    twice = model(
        "(float[4] x) => (float[4] y)",
        "big = Constant<value_float = 1e6>() s = Sin(x) t = Identity(s) d = Sub(s, t) y = Mul(d, big)",
    )
    assert judged(twice, {"x": np.linspace(0.1, 1, 4, dtype=np.float32)}, 0.1) == RECOMPUTED


def test_what_another_reference_computes_is_disputed() -> None:
    sine = model("(float[4] x) => (float[4] y)", "y = Sin(x)")
    feed = {"x": np.ones(4, np.float32)}
    opinion = {"y": Reference.ONNXRUNTIME.run(sine, feed)["y"] + np.float32(0.01)}
    assert judged(sine, feed, 0.01, [opinion]) == DISPUTED


def test_a_cast_that_cannot_hold_its_value_is_undefined() -> None:
    cast = model("(float[2] x) => (int32[2] y)", "y = Cast<to = 6>(x)")
    assert judged(cast, {"x": np.array([1, 1e20], np.float32)}, 1) == UNDEFINED
    assert judged(cast, {"x": np.array([1, 2], np.float32)}, 1) == ""


@pytest.mark.parametrize(
    ("operator", "a", "b", "undefined"),
    [
        ("Div", [1, 2], [1, 0], True),
        ("Div", [1, 2], [1, 3], False),
        ("Mod", [1, 2], [0, 1], True),
        ("Pow", [2, 2], [1, -1], True),
        ("Pow", [2, 2], [1, 3], False),
        ("Add", [2, 2], [0, -1], False),
    ],
)
def test_undefined_arithmetic_of_integers(operator: str, a: list[int], b: list[int], undefined: bool) -> None:
    arithmetic = model("(int64[2] a, int64[2] b) => (int64[2] y)", f"y = {operator}(a, b)")
    values = {"a": np.array(a), "b": np.array(b), "y": np.zeros(2, np.int64)}
    assert undefined_nodes(arithmetic, values) == (["y"] if undefined else [])

"""Monte Carlo arithmetic: noise where arithmetic rounds, and none where elements only move."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper, parser

from benchmarks.fuzz.sensitivity import DRAWS, instability, noisy_variants
from relaxc.compiler.verify.first_drift import all_values
from relaxc.compiler.verify.reference import Reference

X = {"x": np.linspace(0.1, 1, 8, dtype=np.float32)}


def draws(body: str, every_use: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
    """The reference's result, and those with noise."""
    text = f'<ir_version: 8, opset_import: ["": 17]> graph (float[8] x) => (float[8] y) {{ {body} }}'
    model = parser.parse_model(text)
    values = all_values(model, X, Reference.ONNXRUNTIME)
    variants = list(noisy_variants(model, values, every_use))
    for variant in variants:
        onnx.checker.check_model(variant)
    results = [Reference.ONNXRUNTIME.run(variant, X)["y"] for variant in variants]
    return Reference.ONNXRUNTIME.run(model, X)["y"], results


def test_arithmetic_gets_some_roundings_of_noise() -> None:
    reference, results = draws("y = Sin(x)")
    assert len(results) == DRAWS
    relative = instability(reference, results) / np.abs(reference)
    assert (relative > 2.0**-23).all()
    assert (relative < 2.0**-18).all()


def test_each_draw_has_noise_of_its_own() -> None:
    _, results = draws("y = Sin(x)")
    assert len({result.tobytes() for result in results}) == DRAWS


def test_what_only_moves_elements_gets_none() -> None:
    reference, results = draws("a = Abs(x) b = Neg(a) y = Relu(b)")
    assert not instability(reference, results).any()


def test_noise_on_every_use_reaches_what_cancels() -> None:
    for every_use, differs in ((False, False), (True, True)):
        reference, results = draws("s = Sin(x) t = Identity(s) y = Sub(s, t)", every_use)
        assert bool(instability(reference, results).any()) == differs


def test_instability_is_infinite_where_only_some_draws_are_finite() -> None:
    reference = np.array([1, 1, np.inf, np.nan, np.inf])
    draw = np.array([1.5, np.inf, np.inf, np.nan, -np.inf])
    np.testing.assert_array_equal(instability(reference, [draw]), [0.5, np.inf, 0, 0, np.inf])


def test_long_sums_get_more_noise() -> None:
    spreads = []
    for terms in (1, 10_000):
        body = f"n = Constant<value = int64[2] {{8, {terms}}}>() c = Constant<value = int64[2] {{8, 1}}>()"
        reference, results = draws(
            f"{body} a = Reshape(x, c) b = Expand(a, n) y = ReduceMean<axes = [1], keepdims = 0>(b)"
        )
        spreads.append(np.median(instability(reference, results)))
    assert 50 * spreads[0] < spreads[1] < 200 * spreads[0]


def test_products_with_weights_count_their_terms() -> None:
    head = '<ir_version: 8, opset_import: ["": 17]>'
    text = f"{head} graph (float[8] x) => (float[1] y) <float[8, 1] w> {{ y = MatMul(x, w) }}"
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 1), np.float32), "w"))
    values = all_values(model, X, Reference.ONNXRUNTIME)
    assert len(list(noisy_variants(model, values, every_use=False))) == DRAWS

# ruff: noqa: E501 - a table has a row a case
"""Operators that few models use: a row a case, against onnx's reference implementation or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import relaxc

RNG = np.random.default_rng(11)
Graph = Callable[..., onnx.ModelProto]
Check = Callable[..., Any]


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


Case = tuple[str, list[Any], dict[str, Any], int]

BY_REFERENCE: list[Case] = [
    ("NonZero", [np.array([[1, 0], [0, 2]], np.float32)], {}, 1),
    ("NonZero", [np.zeros((2, 3), np.int32)], {}, 1),
    ("Compress", [f32(3, 4), np.array([True, False, True])], {"axis": 0}, 1),
    ("Compress", [f32(2, 3), np.array([False, True, True, False])], {}, 1),
    ("Unique", [i64(3, 1, 3, 2, 1)], {"sorted": 1}, 4),
    ("Unique", [i64(3, 1, 3, 2, 1)], {"sorted": 0}, 4),
    ("GridSample", [f32(1, 2, 4, 5), RNG.uniform(-1.2, 1.2, (1, 3, 3, 2)).astype(np.float32)], {"mode": "linear"}, 1),
    ("GridSample", [f32(1, 1, 4, 5), RNG.uniform(-2, 2, (1, 3, 3, 2)).astype(np.float32)], {"padding_mode": "reflection", "align_corners": 1}, 1),
    ("AffineGrid", [f32(2, 2, 3), i64(2, 1, 3, 4)], {}, 1),
    ("CenterCropPad", [f32(5, 4), i64(3, 7)], {}, 1),
    ("MaxUnpool", [f32(1, 1, 2, 2), i64([[[5, 7], [13, 15]]]).reshape(1, 1, 2, 2)], {"kernel_shape": [2, 2], "strides": [2, 2]}, 1),
    ("Det", [f32(3, 4, 4)], {}, 1),
    ("HannWindow", [np.array(9, np.int32)], {}, 1),
    ("BlackmanWindow", [np.array(8, np.int64)], {"periodic": 0}, 1),
    ("STFT", [f32(1, 32, 1), i64(8).reshape(()), f32(16)], {}, 1),
    ("Range", [np.float32(1), np.float32(5), np.float32(0.75)], {}, 1),
    ("Pad", [f32(2, 3), i64(1, 0, 0, 2), np.float32(4)], {}, 1),
    ("Resize", [f32(1, 1, 2, 3), None, np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"}, 1),
    ("Dropout", [f32(40), np.float32(0.25), np.array(True)], {"seed": 3}, 2),
    ("SequenceConstruct", [f32(2), f32(3)], {}, 1),
    ("TopK", [f32(3, 50), i64(7)], {"axis": 1, "largest": 0}, 2),
    ("TopK", [f32(9, 2), i64(9)], {"axis": 0}, 2),
]  # fmt: skip

BY_RUNTIME: list[Case] = [
    ("GridSample", [f32(1, 2, 4, 5), RNG.uniform(-1.2, 1.2, (1, 3, 3, 2)).astype(np.float32)], {"mode": "cubic", "padding_mode": "border"}, 1),
    ("NonMaxSuppression", [RNG.uniform(0, 1, (1, 9, 4)).astype(np.float32), RNG.uniform(0, 1, (1, 2, 9)).astype(np.float32), i64(3), np.array([0.3], np.float32), np.array([0.2], np.float32)], {}, 1),
    ("RoiAlign", [f32(1, 2, 8, 8), np.array([[0, 0, 5, 6], [1, 2, 7.5, 7]], np.float32), i64(0, 0)], {"output_height": 2, "output_width": 3, "sampling_ratio": 2}, 1),
    ("MaxRoiPool", [f32(1, 2, 8, 8), np.array([[0, 0, 0, 5, 6], [0, 1, 2, 7, 7]], np.float32)], {"pooled_shape": [2, 2]}, 1),
    ("com.microsoft.FusedMatMul", [f32(4, 3), f32(4, 5)], {"transA": 1, "alpha": 0.5}, 1),
    ("com.microsoft.BiasGelu", [f32(3, 4), f32(4)], {}, 1),
    ("com.microsoft.FastGelu", [f32(3, 4), f32(4)], {}, 1),
    ("com.microsoft.QuickGelu", [f32(3, 4)], {}, 1),
    ("com.microsoft.SkipLayerNormalization", [f32(1, 3, 8), f32(1, 3, 8), f32(8), f32(8), f32(8)], {}, 1),
    ("com.microsoft.FusedConv", [f32(1, 3, 6, 6), f32(4, 3, 3, 3), f32(4)], {"activation": "Relu"}, 1),
    ("com.microsoft.MatMulIntegerToFloat", [RNG.integers(0, 255, (3, 4)).astype(np.uint8), RNG.integers(0, 255, (4, 5)).astype(np.uint8), np.float32(0.1), np.float32(0.2), np.uint8(7), np.uint8(9), f32(5)], {}, 1),
    ("com.microsoft.DynamicQuantizeMatMul", [f32(3, 4), RNG.integers(0, 255, (4, 5)).astype(np.uint8), np.float32(0.2), np.uint8(9), f32(5)], {}, 1),
    ("ai.onnx.ml.Scaler", [f32(3, 2)], {"offset": [0.5, 1.0], "scale": [2.0, 3.0]}, 1),
    ("ai.onnx.ml.Normalizer", [f32(3, 4)], {"norm": "L2"}, 1),
    ("ai.onnx.ml.LinearRegressor", [f32(3, 2)], {"coefficients": [1.0, 2.0], "intercepts": [0.5]}, 1),
    ("ai.onnx.ml.LinearClassifier", [f32(5, 2)], {"coefficients": [1.0, 2.0, -1.0, 0.5, 0.1, -2.0], "intercepts": [0.1, 0.2, 0.3], "classlabels_ints": [4, 5, 6], "post_transform": "SOFTMAX"}, 2),
    ("ai.onnx.ml.Imputer", [np.array([[1, np.nan], [np.nan, 2]], np.float32)], {"imputed_value_floats": [7.0, 8.0], "replaced_value_float": float("nan")}, 1),
    ("ai.onnx.ml.TreeEnsembleClassifier", [f32(20, 2)], {"classlabels_int64s": [3, 4, 5], "nodes_treeids": [0, 0, 0, 1], "nodes_nodeids": [0, 1, 2, 0], "nodes_featureids": [1, 0, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF", "LEAF"], "nodes_values": [0.1, 0.0, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0, 0], "nodes_falsenodeids": [2, 0, 0, 0], "class_treeids": [0, 0, 0, 1], "class_nodeids": [1, 1, 2, 0], "class_ids": [0, 1, 2, 1], "class_weights": [0.6, 0.3, 0.9, 0.1]}, 2),
    ("ai.onnx.ml.TreeEnsembleClassifier", [f32(20, 2)], {"classlabels_int64s": [0, 1], "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.1, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 0], "class_weights": [-0.6, 0.9], "post_transform": "LOGISTIC"}, 2),
    ("ai.onnx.ml.LabelEncoder", [i64(1, 2, 9)], {"keys_int64s": [1, 2], "values_floats": [0.5, 1.5], "default_float": -3.0}, 1),
    ("ai.onnx.ml.TreeEnsembleRegressor", [f32(20, 2)], {"n_targets": 1, "nodes_treeids": [0, 0, 0, 0, 0, 1], "nodes_nodeids": [0, 1, 2, 3, 4, 0], "nodes_featureids": [0, 0, 1, 0, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LT", "LEAF", "LEAF", "LEAF"], "nodes_values": [0.1, 0, -0.2, 0, 0, 0], "nodes_truenodeids": [1, 0, 3, 0, 0, 0], "nodes_falsenodeids": [2, 0, 4, 0, 0, 0], "target_treeids": [0, 0, 0, 1], "target_nodeids": [1, 3, 4, 0], "target_ids": [0, 0, 0, 0], "target_weights": [1.0, 2.0, 3.0, 0.5], "base_values": [0.25]}, 1),
    ("ai.onnx.ml.OneHotEncoder", [i64(3, 1, 9, 2)], {"cats_int64s": [1, 2, 3], "zeros": 1}, 1),
    ("ai.onnx.ml.FeatureVectorizer", [f32(3, 2), f32(3, 4), f32(3, 1)], {"inputdimensions": [2, 3, 2]}, 1),
    ("ai.onnx.ml.SVMRegressor", [f32(5, 2)], {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0], "n_supports": 0, "coefficients": [0.5, -1.0], "rho": [0.25]}, 1),
    ("ai.onnx.ml.SVMRegressor", [f32(5, 2)], {"kernel_type": "RBF", "kernel_params": [0.5, 0.25, 3.0], "coefficients": [1.0, -2.0, 0.5], "support_vectors": [0.5, -1.0, 0.25, 2.0, -0.5, 1.5], "n_supports": 3, "rho": [0.25], "one_class": 0}, 1),
    ("ai.onnx.ml.SVMRegressor", [f32(5, 2)], {"kernel_type": "POLY", "kernel_params": [0.5, 0.25, 3.0], "coefficients": [1.0, -2.0, 0.5], "support_vectors": [0.5, -1.0, 0.25, 2.0, -0.5, 1.5], "n_supports": 3, "rho": [0.25], "one_class": 0}, 1),
    ("ai.onnx.ml.SVMRegressor", [f32(5, 2)], {"kernel_type": "SIGMOID", "kernel_params": [0.5, 0.25, 3.0], "coefficients": [1.0, -2.0, 0.5], "support_vectors": [0.5, -1.0, 0.25, 2.0, -0.5, 1.5], "n_supports": 3, "rho": [0.25], "one_class": 1}, 1),
]  # fmt: skip


def name_of(case: Case) -> str:
    return f"{case[0]}-{','.join(case[2])}" if len(case[2]) < 4 else case[0]


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """One node; inputs of the shapes given, weights of fused operators included."""
    domain, _, operator = case[0].rpartition(".")
    _, inputs, attributes, results = case
    names = ["" if value is None else f"x{place}" for place, value in enumerate(inputs)]
    outputs = [f"y{place}" for place in range(results)]
    feeds = {name: value for name, value in zip(names, inputs, strict=True) if name}
    declared = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    node = helper.make_node(operator, names, outputs, domain=domain, **attributes)
    graph = helper.make_graph([node], "g", declared, [onnx.ValueInfoProto(name=name) for name in outputs])
    opsets = [
        helper.make_opsetid("", 20),
        *([helper.make_opsetid(domain, 3 if domain.endswith("ml") else 1)] if domain else []),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), feeds


@pytest.mark.parametrize("case", BY_REFERENCE, ids=name_of)
def test_operator_agrees_with_the_reference(case: Case) -> None:
    model, feeds = model_of(case)
    expected = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    _compare(model, feeds, expected)


@pytest.mark.parametrize("case", BY_RUNTIME, ids=name_of)
def test_operator_agrees_with_onnxruntime(case: Case) -> None:
    model, feeds = model_of(case)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {name: np.asarray(value) for name, value in feeds.items()}
    _compare(model, feeds, session.run(None, feeds))


def _compare(model: onnx.ModelProto, feeds: dict[str, np.ndarray], expected: list[Any]) -> None:
    results = relaxc.compile(model).run({name: np.asarray(value) for name, value in feeds.items()})
    for actual, wanted in zip(results.values(), expected, strict=True):
        parts = zip(actual, wanted, strict=True) if isinstance(wanted, list) else [(actual, wanted)]
        for mine, theirs in parts:
            assert mine.shape == np.shape(theirs)
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


NARROW = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn"]


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_floats_round_half_to_even(dtype: str, graph: Graph) -> None:
    """There and back again gives what ml_dtypes gives, for numbers within the format's range."""
    kind = np.dtype(getattr(ml_dtypes, dtype))
    limits: Any = ml_dtypes.finfo(kind)  # type: ignore[no-untyped-call]
    largest = float(limits.max)
    values = np.concatenate([RNG.uniform(-largest, largest, 200), RNG.uniform(-0.1, 0.1, 200), [0.0]]).astype(
        np.float32
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=helper.np_dtype_to_tensor_dtype(kind)),
        helper.make_node("Cast", ["narrow"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    model = graph(nodes, {"x": (np.float32, ["n"])}, ["narrow", "y"], 23)
    results = relaxc.compile(model).run({"x": values})
    assert results["narrow"].dtype == kind
    np.testing.assert_array_equal(results["y"], values.astype(kind).astype(np.float32))


def test_narrow_inputs_are_moved_and_decoded(graph: Graph) -> None:
    kind = np.dtype(ml_dtypes.int4)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("DequantizeLinear", ["t", "scale"], ["y"]),
    ]
    values = np.array([[-8, -1, 0], [1, 2, 7]]).astype(kind)
    model = graph(nodes, {"x": (kind, [2, 3])}, ["y"], 21, {"scale": np.float32(0.5)})
    results = relaxc.compile(model).run({"x": values})
    np.testing.assert_array_equal(results["y"], values.astype(np.float32).T * 0.5)


def loop(graph: Graph) -> onnx.ModelProto:
    """s = 1, 2, 4 ...; collects s; the number of steps is an input."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "s"], ["s_out"]),
            helper.make_node("Identity", ["s"], ["entry"]),
            helper.make_node("Identity", ["go"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("go_out", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("s_out", onnx.TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("entry", onnx.TensorProto.FLOAT, [2]),
        ],
    )
    node = helper.make_node("Loop", ["steps", "", "s0"], ["last", "all"], body=body)
    return graph([node], {"steps": (np.int64, []), "s0": (np.float32, [2])}, ["last", "all"])


def test_a_loop_runs_as_often_as_its_data_says(graph: Graph, check: Check) -> None:
    feeds = [{"steps": np.array(n), "s0": np.array([1, 3], np.float32)} for n in (4, 1, 7)]
    check(loop(graph), *feeds, reference="onnxruntime")


def test_a_loop_may_be_longer_than_any_stack_is_deep(graph: Graph) -> None:
    step = helper.make_graph(
        [
            helper.make_node("Add", ["n", "one"], ["n_out"]),
            helper.make_node("Less", ["n_out", "last"], ["go_out"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("n", onnx.TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("go_out", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("n_out", onnx.TensorProto.INT64, []),
        ],
    )
    model = graph(
        [helper.make_node("Loop", ["", "", "zero"], ["count"], body=step)],
        {"last": (np.int64, [])},
        ["count"],
        constants={"one": np.array(1), "zero": np.array(0)},
    )
    executable = relaxc.compile(model)
    for count in (1, 63, 100_000):
        assert executable.run({"last": np.array(count)})["count"] == count


def test_a_loop_of_a_known_number_of_steps_is_unrolled(graph: Graph, check: Check) -> None:
    start = {"s0": np.array([1, 3], np.float32), "steps": np.array(3)}
    check(loop(graph), start, reference="onnxruntime", static_inputs={"steps": np.array(3)})


def test_positions_outside_of_the_data_do_not_crash(graph: Graph) -> None:
    model = graph(
        [helper.make_node("Gather", ["x", "i"], ["y"])], {"x": (np.float32, [3]), "i": (np.int64, [2])}, ["y"]
    )
    result = relaxc.compile(model).run({"x": f32(3), "i": i64(1 << 40, -(1 << 40))})
    assert result["y"].shape == (2,)


@pytest.mark.parametrize("operator", ["RandomUniform", "RandomNormal"])
def test_random_numbers_have_their_distribution(operator: str, graph: Graph) -> None:
    model = graph([helper.make_node(operator, [], ["y"], shape=[100, 100], seed=5.0)], {}, ["y"])
    drawn = relaxc.compile(model).run({})["y"]
    mean, deviation = (0.5, 12**-0.5) if operator == "RandomUniform" else (0.0, 1.0)
    assert abs(drawn.mean() - mean) < 0.03
    assert abs(drawn.std() - deviation) < 0.03


def test_a_sequence_as_an_input_must_be_static() -> None:
    tensor = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    value = helper.make_value_info("s", helper.make_sequence_type_proto(tensor))
    node = helper.make_node("SequenceLength", ["s"], ["n"])
    output = helper.make_tensor_value_info("n", onnx.TensorProto.INT64, [])
    model = helper.make_model(helper.make_graph([node], "g", [value], [output]), ir_version=9)
    with pytest.raises(relaxc.errors.StaticInputRequired) as caught:
        relaxc.compile(model)
    assert caught.value.names == ("s",)
    static: Any = {"s": [f32(2), f32(3)]}
    assert relaxc.compile(model, static_inputs=static).run({})["n"] == 2


def test_weights_of_4_bits_are_decoded_in_blocks() -> None:
    rows, columns, block = 6, 32, 16
    constants = {
        "b": RNG.integers(0, 256, (rows, columns // block, block // 2)).astype(np.uint8),
        "scales": RNG.uniform(0.1, 1, rows * columns // block).astype(np.float32),
        "zeros": RNG.integers(0, 256, rows * ((columns // block + 1) // 2)).astype(np.uint8),
    }
    node = helper.make_node(
        "MatMulNBits",
        ["x", *constants],
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=4,
        block_size=block,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, columns])],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = f32(3, columns)
    expected = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(relaxc.compile(model).run({"x": x})["y"], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operator", ["Bernoulli", "Multinomial"])
def test_draws_follow_the_given_chances(operator: str, graph: Graph) -> None:
    attributes = {"sample_size": 4000} if operator == "Multinomial" else {}
    given = np.log([[0.3, 0.7]]).astype(np.float32)
    if operator == "Bernoulli":
        given = np.full((1, 4000), 0.7, np.float32)
    node = helper.make_node(operator, ["x"], ["y"], seed=2.0, **attributes)
    drawn = relaxc.compile(graph([node], {"x": (np.float32, given.shape)}, ["y"])).run({"x": given})["y"]
    assert drawn.shape == (1, 4000)
    assert abs(drawn.mean() - 0.7) < 0.03

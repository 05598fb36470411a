# ruff: noqa: E501 - a table has a row a case
"""The operators of com.microsoft, which ONNX Runtime's optimizers write into files, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import relaxc

RNG = np.random.default_rng(23)


def f32(*shape: int) -> np.ndarray:
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def u8(*shape: int) -> np.ndarray:
    return RNG.integers(0, 255, shape).astype(np.uint8)


def i8(*shape: int) -> np.ndarray:
    return RNG.integers(-100, 100, shape).astype(np.int8)


def i32(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


S, Z = np.float32(0.03), np.uint8(120)
COS, SIN = np.cos(f32(16, 4)), np.sin(f32(16, 4))
PAST = (f32(1, 2, 3, 8), f32(1, 2, 3, 8))
CACHE = (f32(2, 1, 6, 16), f32(2, 1, 6, 16))

Case = tuple[str, list[Any], dict[str, Any], int]

CASES: dict[str, Case] = {
    "attention": ("Attention", [f32(2, 5, 16), f32(16, 48), f32(48)], {"num_heads": 2}, 1),
    "attention, lengths": ("Attention", [f32(2, 5, 16), f32(16, 48), f32(48), i32(3, 5)], {"num_heads": 2}, 1),
    "attention, mask": ("Attention", [f32(2, 3, 16), f32(16, 48), f32(48), i32([1, 1, 0], [1, 0, 1])], {"num_heads": 2}, 1),
    "attention, rows masked": ("Attention", [f32(1, 2, 16), f32(16, 48), f32(48), i32([[1, 0], [1, 1]])], {"num_heads": 2}, 1),
    "attention, causal, past": ("Attention", [f32(1, 4, 16), f32(16, 48), f32(48), None, f32(2, 1, 2, 3, 8)], {"num_heads": 2, "unidirectional": 1}, 2),
    "attention, widths": ("Attention", [f32(1, 4, 12), f32(12, 40), f32(40)], {"num_heads": 2, "qkv_hidden_sizes": [16, 16, 8], "scale": 0.3}, 1),
    "multi-head": ("MultiHeadAttention", [f32(2, 3, 16), f32(2, 5, 16), f32(2, 5, 24)], {"num_heads": 2}, 1),
    "multi-head, bias, mask": ("MultiHeadAttention", [f32(2, 3, 16), f32(2, 3, 16), f32(2, 3, 16), f32(48), i32([1, 1, 0], [1, 0, 1]), f32(1, 2, 3, 3)], {"num_heads": 2}, 1),
    "multi-head, past": ("MultiHeadAttention", [f32(1, 4, 16), f32(1, 4, 16), f32(1, 4, 16), None, None, None, *PAST], {"num_heads": 2, "unidirectional": 1}, 3),
    "multi-head, cross": ("MultiHeadAttention", [f32(1, 4, 16), *PAST], {"num_heads": 2}, 1),
    "quantized attention": ("QAttention", [u8(2, 5, 16), i8(16, 48), f32(48), np.float32(0.01), np.float32(0.01), i32(3, 5), np.uint8(128), np.int8(0)], {"num_heads": 2}, 1),
    "rotary": ("RotaryEmbedding", [f32(2, 3, 16), np.array([[0, 1, 2], [4, 5, 6]]), COS, SIN], {}, 1),
    "rotary, interleaved": ("RotaryEmbedding", [f32(2, 2, 3, 8), np.array([3]), COS, SIN], {"interleaved": 1}, 1),
    "grouped, prompt": ("GroupQueryAttention", [f32(2, 4, 16), f32(2, 4, 8), f32(2, 4, 8), None, None, i32(3, 3), i32(4)], {"num_heads": 2, "kv_num_heads": 1}, 3),
    "grouped, decode": ("GroupQueryAttention", [f32(2, 1, 32), f32(2, 1, 16), f32(2, 1, 16), *CACHE, i32(4, 6), i32(7), np.cos(f32(16, 8)), np.sin(f32(16, 8))], {"num_heads": 2, "kv_num_heads": 1, "do_rotary": 1}, 3),
    "grouped, packed, window": ("GroupQueryAttention", [f32(1, 5, 32), None, None, None, None, i32(4), i32(5)], {"num_heads": 2, "kv_num_heads": 1, "local_window_size": 3}, 3),
    "embedding": ("EmbedLayerNormalization", [i32([1, 2, 3], [0, 4, 1]), i32([0, 0, 1], [1, 0, 1]), f32(6, 8), f32(5, 8), f32(2, 8), f32(8), f32(8), i32([1, 1, 0], [1, 0, 0])], {}, 3),
    "skip": ("SkipLayerNormalization", [f32(2, 3, 8), f32(2, 3, 8), f32(8), f32(8), f32(8)], {}, 1),
    "skip, simple": ("SkipSimplifiedLayerNormalization", [f32(2, 3, 8), f32(2, 3, 8), f32(8)], {}, 1),
    "simple": ("ai.onnx.SimplifiedLayerNormalization", [f32(2, 3, 8), f32(8)], {"axis": -1, "epsilon": 1e-3}, 1),
    "activation": ("FusedGemm", [f32(3, 4), f32(4, 5), f32(5)], {"activation": "LeakyRelu", "activation_alpha": 0.2}, 1),
    "convolution": ("FusedConv", [f32(1, 3, 6, 6), f32(4, 3, 3, 3), f32(4)], {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}, 1),
    "weights of 4 bits": ("MatMulNBits", [f32(3, 32), u8(5, 2, 8), f32(10)], {"K": 32, "N": 5, "bits": 4, "block_size": 16}, 1),
    "lstm": ("DynamicQuantizeLSTM", [f32(4, 2, 6), u8(1, 6, 20), u8(1, 5, 20), f32(1, 40), None, None, None, None, f32(1) / 50 + 0.01, u8(1), f32(1) / 50 + 0.01, u8(1)], {"hidden_size": 5}, 3),
}  # fmt: skip

QUANTIZED: dict[str, Case] = {
    "sum": ("QLinearAdd", [u8(3, 4), S, Z, u8(4), S, Z, np.float32(0.05), Z], {}, 1),
    "product": ("QLinearMul", [i8(3, 4), S, np.int8(3), i8(3, 1), S, np.int8(-5), np.float32(0.1), np.int8(0)], {}, 1),
    "sigmoid": ("QLinearSigmoid", [u8(3, 4), S, Z, np.float32(1 / 256), np.uint8(0)], {}, 1),
    "leaky": ("QLinearLeakyRelu", [u8(3, 4), S, Z, S, np.uint8(10)], {"alpha": 0.1}, 1),
    "softmax": ("QLinearSoftmax", [u8(3, 4), S, Z, np.float32(1 / 256), np.uint8(0)], {"axis": -1, "opset": 13}, 1),
    "global mean": ("QLinearGlobalAveragePool", [u8(2, 3, 4, 4), S, Z, np.float32(0.02), Z], {"channels_last": 0}, 1),
    "global mean, channels last": ("QLinearGlobalAveragePool", [u8(2, 4, 4, 3), S, Z, np.float32(0.02), Z], {"channels_last": 1}, 1),
    "means": ("QLinearAveragePool", [u8(2, 3, 4, 4), S, Z, np.float32(0.02), Z], {"kernel_shape": [2, 2]}, 1),
    "joined": ("QLinearConcat", [np.float32(0.05), Z, u8(2, 3), S, Z, u8(2, 3), np.float32(0.02), np.uint8(7)], {"axis": 1}, 1),
    "chosen": ("QLinearWhere", [np.array([[True], [False]]), u8(2, 3), S, Z, u8(2, 3), S, np.uint8(7), S, np.uint8(90)], {}, 1),
    "gemm": ("QGemm", [u8(3, 4), S, Z, u8(5, 4), S, Z, RNG.integers(-99, 99, (5,)).astype(np.int32), np.float32(0.1), Z], {"transB": 1}, 1),
    "largest, channels last": ("NhwcMaxPool", [u8(2, 5, 5, 3)], {"kernel_shape": [2, 2], "strides": [2, 2]}, 1),
    "levels": ("QuantizeLinear", [f32(3, 4), S, Z], {}, 1),
}  # fmt: skip


def model_of(case: Case, constants: bool) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """One node. Parameters may have to be constants, for ONNX Runtime or for us; the first input never is."""
    domain, _, operator = case[0].rpartition(".")
    domain = "com.microsoft" if not domain else ""
    values = {f"x{place}": np.asarray(value) for place, value in enumerate(case[1]) if value is not None}
    names = [f"x{place}" if value is not None else "" for place, value in enumerate(case[1])]
    outputs = [f"y{place}" for place in range(case[3])]
    fixed = list(values)[1:] if constants else []
    declared = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in values.items()
        if n not in fixed
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, names, outputs, domain=domain, **case[2])],
        "g",
        declared,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(values[name], name) for name in fixed],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    feeds = {name: value for name, value in values.items() if name not in fixed}
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), feeds


def both(case: Case, constants: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Our results and ONNX Runtime's."""
    model, feeds = model_of(case, constants)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(zip(relaxc.compile(model).run(feeds).values(), session.run(None, feeds), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_operator_agrees_with_onnxruntime(name: str) -> None:
    # ONNX Runtime quantizes the activations of such an LSTM, too.
    tolerance = 0.05 if name == "lstm" else 2e-5
    fixed = name in ("weights of 4 bits", "lstm", "quantized attention")
    for mine, theirs in both(CASES[name], fixed):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_operator_is_at_most_a_level_off(name: str) -> None:
    """ONNX Runtime requantizes by tables and fixed-point factors."""
    for mine, theirs in both(QUANTIZED[name], True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine.astype(int), theirs.astype(int), rtol=0, atol=1)


def test_packed_queries_keys_and_values() -> None:
    """ONNX Runtime takes them on other devices only, so the reference is the same without packing."""
    parts = [f32(2, 3, 2, 8) for _ in range(3)]
    flat = [part.reshape(2, 3, 16) for part in parts]
    ((_, expected),) = both(("MultiHeadAttention", flat, {"num_heads": 2}, 1), False)
    for inputs in ([np.stack(parts, 3)], [flat[0], np.stack(parts[1:], 3)]):
        model, feeds = model_of(("MultiHeadAttention", inputs, {"num_heads": 2}, 1), False)
        (actual,) = relaxc.compile(model).run(feeds).values()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

"""The layers that the benchmark models share, each as the nodes of its PyTorch export."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .graph_builder import Dim, GraphBuilder


def conv(
    g: GraphBuilder,
    name: str,
    x: str,
    channels: tuple[int, int],
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    same: bool = True,
) -> str:
    """2-D convolution, NCHW and OIHW, with He-initialised weights.

    Args:
        channels: input and output channels.
        same: pad by ``kernel // 2`` on all sides; otherwise not at all.
    """
    c_in, c_out = channels
    fan_in = c_in // groups * kernel * kernel
    inputs = [x, g.normal(f"{name}.weight", (c_out, c_in // groups, kernel, kernel), math.sqrt(2.0 / fan_in))]
    if bias:
        inputs.append(g.normal(f"{name}.bias", (c_out,), 0.02))
    pad = kernel // 2 if same else 0
    return g.op(
        "Conv",
        *inputs,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[pad] * 4,
        dilations=[1, 1],
        group=groups,
    )


def batch_norm(g: GraphBuilder, name: str, x: str, channels: int, *, gain: float = 1.0) -> str:
    """Batch normalisation with running statistics; ``gain`` is the mean of its scale."""
    scale = g.normal(f"{name}.weight", (channels,), 0.1 * gain, mean=gain)
    bias = g.normal(f"{name}.bias", (channels,), 0.1)
    mean = g.normal(f"{name}.running_mean", (channels,), 0.1)
    variance = g.normal(f"{name}.running_var", (channels,), 0.05, mean=1.0)
    return g.op("BatchNormalization", x, scale, bias, mean, variance, epsilon=1e-5)


def linear(g: GraphBuilder, name: str, x: str, features: tuple[int, int]) -> str:
    """A dense layer on a tensor of any rank: MatMul with the transposed weight, then Add."""
    product = g.op("MatMul", x, g.normal(f"{name}.weight", features, 1 / math.sqrt(features[0])))
    return g.op("Add", g.normal(f"{name}.bias", (features[1],), 0.02), product)


def gemm(g: GraphBuilder, name: str, x: str, features: tuple[int, int]) -> str:
    """A dense layer on a matrix: Gemm with the weight as PyTorch keeps it, [out, in]."""
    weight = g.normal(f"{name}.weight", (features[1], features[0]), 1 / math.sqrt(features[0]))
    return g.op("Gemm", x, weight, g.normal(f"{name}.bias", (features[1],), 0.02), transB=1)


def layer_norm(g: GraphBuilder, name: str, x: str, features: int, epsilon: float) -> str:
    """Layer normalisation over the last axis."""
    scale = g.normal(f"{name}.weight", (features,), 0.1, mean=1.0)
    bias = g.normal(f"{name}.bias", (features,), 0.1)
    return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)


def gelu(g: GraphBuilder, x: str) -> str:
    """x * (1 + erf(x / sqrt(2))) / 2, spelled out: ONNX has had a Gelu operator only since opset 20."""
    erf = g.op("Erf", g.op("Div", x, g.constant(math.sqrt(2.0), np.float32)))
    product = g.op("Mul", x, g.op("Add", erf, g.constant(1.0, np.float32)))
    return g.op("Mul", product, g.constant(0.5, np.float32))


def dim(g: GraphBuilder, x: str, axis: int) -> str:
    """The extent of one axis of ``x`` as a tensor of one element, computed at run time."""
    extent = g.op("Gather", g.op("Shape", x), g.constant(axis), axis=0)
    return g.op("Unsqueeze", extent, g.constant([0]))


def reshape(g: GraphBuilder, x: str, shape: Sequence[Dim | None]) -> str:
    """Reshape; an entry that is None is the extent of the same axis of ``x``, read at run time."""
    if None not in shape:
        return g.op("Reshape", x, g.constant(shape))
    parts = [dim(g, x, axis) if extent is None else g.constant([extent]) for axis, extent in enumerate(shape)]
    return g.op("Reshape", x, g.op("Concat", *parts, axis=0))


def split_heads(g: GraphBuilder, x: str, shape: Sequence[int | None]) -> str:
    """[batch, tokens, heads * size] to [batch, heads, tokens, size], by way of ``shape``."""
    return g.op("Transpose", reshape(g, x, shape), perm=[0, 2, 1, 3])


def merge_heads(g: GraphBuilder, x: str, shape: Sequence[int | None]) -> str:
    """[batch, heads, tokens, size] to [batch, tokens, heads * size]."""
    return reshape(g, g.op("Transpose", x, perm=[0, 2, 1, 3]), shape)

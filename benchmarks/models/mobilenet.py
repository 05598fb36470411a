"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from .graph_builder import Dim, GraphBuilder
from .layers import batch_norm, conv, gemm


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks in a row: a line of table 2 of the paper (t, c, n, s)."""

    expansion: int
    channels: int
    blocks: int
    stride: int


@dataclass(frozen=True)
class MobileNetV2Config:
    """Sizes of the network.

    Attributes:
        stem: channels after the first convolution.
        stages: the inverted residual blocks.
        head: channels before the pooling.
        classes: outputs.
        image: height and width of the input.
    """

    stem: int
    stages: tuple[Stage, ...]
    head: int
    classes: int = 1000
    image: int = 224


MOBILENET_V2 = MobileNetV2Config(
    stem=32,
    stages=(
        Stage(1, 16, 1, 1),
        Stage(6, 24, 2, 2),
        Stage(6, 32, 3, 2),
        Stage(6, 64, 4, 2),
        Stage(6, 96, 3, 1),
        Stage(6, 160, 3, 2),
        Stage(6, 320, 1, 1),
    ),
    head=1280,
)
MOBILENET_V2_REDUCED = MobileNetV2Config(
    stem=16, stages=(Stage(1, 8, 1, 1), Stage(6, 12, 2, 2), Stage(6, 20, 1, 2)), head=40, classes=10, image=64
)


def build_mobilenet_v2(config: MobileNetV2Config, batch: Dim = 1) -> onnx.ModelProto:
    """Image [batch, 3, image, image] to logits [batch, classes]."""
    g = GraphBuilder("mobilenet_v2")
    x = g.input("image", (batch, 3, config.image, config.image))
    x = _conv_norm(g, "stem", x, (3, config.stem), 3, stride=2)
    channels = config.stem
    for index, stage in enumerate(config.stages):
        for block in range(stage.blocks):
            stride = stage.stride if block == 0 else 1
            name = f"stage{index}.{block}"
            x = _inverted_residual(g, name, x, (channels, stage.channels), stage.expansion, stride)
            channels = stage.channels
    x = _conv_norm(g, "head", x, (channels, config.head), 1)
    x = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    logits = gemm(g, "classifier", x, (config.head, config.classes))
    return g.build({"logits": logits}, {"logits": (batch, config.classes)})


def _inverted_residual(
    g: GraphBuilder, name: str, x: str, channels: tuple[int, int], expansion: int, stride: int
) -> str:
    c_in, c_out = channels
    hidden = c_in * expansion
    y = x if expansion == 1 else _conv_norm(g, f"{name}.expand", x, (c_in, hidden), 1)
    y = _conv_norm(g, f"{name}.depthwise", y, (hidden, hidden), 3, stride=stride, groups=hidden)
    y = conv(g, f"{name}.project.conv", y, (hidden, c_out), 1)
    y = batch_norm(g, f"{name}.project.bn", y, c_out)
    return g.op("Add", x, y) if stride == 1 and c_in == c_out else y


def _conv_norm(
    g: GraphBuilder,
    name: str,
    x: str,
    channels: tuple[int, int],
    kernel: int,
    stride: int = 1,
    groups: int = 1,
) -> str:
    """Convolution, batch norm and ReLU6."""
    y = conv(g, f"{name}.conv", x, channels, kernel, stride=stride, groups=groups)
    y = batch_norm(g, f"{name}.bn", y, channels[1])
    return g.op("Clip", y, g.constant(0.0, np.float32), g.constant(6.0, np.float32))

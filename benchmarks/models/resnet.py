"""ResNet v1.5 (He et al., 2015, arXiv:1512.03385); as in torchvision, the 3x3 convolution has the stride."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from .graph_builder import Dim, GraphBuilder
from .layers import batch_norm, conv, gemm

# The last batch norm of a block starts small, so that a sum over many blocks keeps its scale.
_RESIDUAL_GAIN = 0.3


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a residual network.

    Attributes:
        blocks: residual blocks in each stage.
        bottleneck: blocks of three convolutions (1x1, 3x3, 1x1) instead of two.
        width: channels of the first stage.
        classes: outputs.
        image: height and width of the input.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    width: int = 64
    classes: int = 1000
    image: int = 224


RESNET18 = ResNetConfig((2, 2, 2, 2), bottleneck=False)
RESNET50 = ResNetConfig((3, 4, 6, 3), bottleneck=True)
RESNET18_REDUCED = ResNetConfig((1, 1, 1), bottleneck=False, width=16, classes=10, image=64)
RESNET50_REDUCED = ResNetConfig((1, 2), bottleneck=True, width=16, classes=10, image=64)


def build_resnet(config: ResNetConfig, batch: Dim = 1) -> onnx.ModelProto:
    """Image [batch, 3, image, image] to logits [batch, classes]."""
    g = GraphBuilder("resnet")
    x = g.input("image", (batch, 3, config.image, config.image))
    x = g.op("Relu", _conv_norm(g, "stem", x, (3, config.width), 7, stride=2))
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = config.width
    for stage, count in enumerate(config.blocks):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            name = f"layer{stage + 1}.{index}"
            x, channels = _block(g, name, x, channels, config.width << stage, stride, config.bottleneck)
    x = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    logits = gemm(g, "fc", x, (channels, config.classes))
    return g.build({"logits": logits}, {"logits": (batch, config.classes)})


def _block(
    g: GraphBuilder, name: str, x: str, c_in: int, width: int, stride: int, bottleneck: bool
) -> tuple[str, int]:
    """One residual block and its number of output channels."""
    c_out = 4 * width if bottleneck else width
    # Kernel sizes with their strides: the block's stride sits in its first 3x3 convolution.
    plan = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
    y, channels = x, c_in
    for index, (kernel, step) in enumerate(plan):
        last = index == len(plan) - 1
        target = c_out if last else width
        gain = _RESIDUAL_GAIN if last else 1.0
        y = _conv_norm(g, f"{name}.{index}", y, (channels, target), kernel, stride=step, gain=gain)
        y = y if last else g.op("Relu", y)
        channels = target
    if stride != 1 or c_in != c_out:
        x = _conv_norm(g, f"{name}.shortcut", x, (c_in, c_out), 1, stride=stride)
    return g.op("Relu", g.op("Add", y, x)), c_out


def _conv_norm(
    g: GraphBuilder, name: str, x: str, channels: tuple[int, int], kernel: int, stride: int, gain: float = 1.0
) -> str:
    y = conv(g, f"{name}.conv", x, channels, kernel, stride=stride)
    return batch_norm(g, f"{name}.bn", y, channels[1], gain=gain)

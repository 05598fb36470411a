"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545)."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from .graph_builder import Dim, GraphBuilder
from .layers import conv, gelu, gemm, layer_norm, linear

_EPSILON = 1e-6
_TO_NHWC = [0, 2, 3, 1]
_TO_NCHW = [0, 3, 1, 2]


@dataclass(frozen=True)
class ConvNextConfig:
    """Sizes of the network.

    Attributes:
        depths: blocks of each stage.
        widths: channels of each stage.
        classes: outputs.
        image: height and width of the input.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int = 1000
    image: int = 224


CONVNEXT_T = ConvNextConfig(depths=(3, 3, 9, 3), widths=(96, 192, 384, 768))
CONVNEXT_REDUCED = ConvNextConfig(depths=(1, 2), widths=(16, 32), classes=10, image=64)


def build_convnext(config: ConvNextConfig, batch: Dim = 1) -> onnx.ModelProto:
    """Image [batch, 3, image, image] to logits [batch, classes]."""
    g = GraphBuilder("convnext")
    x = g.input("image", (batch, 3, config.image, config.image))
    x = conv(g, "stem.conv", x, (3, config.widths[0]), 4, stride=4, bias=True, same=False)
    x = _norm_channels(g, "stem.norm", x, config.widths[0])
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
        if stage > 0:
            x = _downsample(g, f"downsample.{stage}", x, (config.widths[stage - 1], width))
        for index in range(depth):
            x = _block(g, f"stages.{stage}.{index}", x, width)
    width = config.widths[-1]
    x = _norm_channels(g, "head.norm", g.op("GlobalAveragePool", x), width)
    logits = gemm(g, "head.fc", g.op("Flatten", x, axis=1), (width, config.classes))
    return g.build({"logits": logits}, {"logits": (batch, config.classes)})


def _downsample(g: GraphBuilder, name: str, x: str, channels: tuple[int, int]) -> str:
    x = _norm_channels(g, f"{name}.norm", x, channels[0])
    return conv(g, f"{name}.conv", x, channels, 2, stride=2, bias=True, same=False)


def _block(g: GraphBuilder, name: str, x: str, width: int) -> str:
    """Depthwise 7x7 convolution and an inverted bottleneck on the channels, scaled and added to the input."""
    y = conv(g, f"{name}.dwconv", x, (width, width), 7, groups=width, bias=True)
    y = layer_norm(g, f"{name}.norm", g.op("Transpose", y, perm=_TO_NHWC), width, _EPSILON)
    y = gelu(g, linear(g, f"{name}.pwconv1", y, (width, 4 * width)))
    y = g.op("Transpose", linear(g, f"{name}.pwconv2", y, (4 * width, width)), perm=_TO_NCHW)
    y = g.op("Mul", g.normal(f"{name}.layer_scale", (width, 1, 1), 0.1, mean=0.3), y)
    return g.op("Add", y, x)


def _norm_channels(g: GraphBuilder, name: str, x: str, channels: int) -> str:
    """Layer normalisation over the channels of an NCHW tensor."""
    y = layer_norm(g, name, g.op("Transpose", x, perm=_TO_NHWC), channels, _EPSILON)
    return g.op("Transpose", y, perm=_TO_NCHW)

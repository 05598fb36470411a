"""Vision Transformer (Dosovitskiy et al., 2020, arXiv:2010.11929; S/16 as in DeiT, arXiv:2012.12877)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from .graph_builder import Dim, GraphBuilder
from .layers import conv, dim, gelu, gemm, layer_norm, linear, merge_heads, reshape

_EPSILON = 1e-6


@dataclass(frozen=True)
class VitConfig:
    """Sizes of the network.

    Attributes:
        width: features of a token.
        depth: transformer blocks.
        heads: attention heads.
        patch: height and width of a patch.
        classes: outputs.
        image: height and width of the input.
    """

    width: int
    depth: int
    heads: int
    patch: int = 16
    classes: int = 1000
    image: int = 224

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.image // self.patch) ** 2 + 1


VIT_S16 = VitConfig(width=384, depth=12, heads=6)
VIT_REDUCED = VitConfig(width=64, depth=2, heads=2, classes=10, image=64)


def build_vit(config: VitConfig, batch: Dim = 1) -> onnx.ModelProto:
    """Image [batch, 3, image, image] to logits [batch, classes]."""
    g = GraphBuilder("vit")
    image = g.input("image", (batch, 3, config.image, config.image))
    leading = batch if isinstance(batch, int) else None
    x = _embed(g, config, image, leading)
    for index in range(config.depth):
        name = f"blocks.{index}"
        y = layer_norm(g, f"{name}.norm1", x, config.width, _EPSILON)
        x = g.op("Add", x, _attention(g, f"{name}.attn", y, config, leading))
        y = layer_norm(g, f"{name}.norm2", x, config.width, _EPSILON)
        y = gelu(g, linear(g, f"{name}.fc1", y, (config.width, 4 * config.width)))
        x = g.op("Add", x, linear(g, f"{name}.fc2", y, (4 * config.width, config.width)))
    x = layer_norm(g, "norm", x, config.width, _EPSILON)
    class_token = g.op("Gather", x, g.constant(0), axis=1)
    logits = gemm(g, "head", class_token, (config.width, config.classes))
    return g.build({"logits": logits}, {"logits": (batch, config.classes)})


def _embed(g: GraphBuilder, config: VitConfig, image: str, batch: int | None) -> str:
    """Patches as tokens behind the class token, with positions added: [batch, tokens, width]."""
    x = conv(
        g, "patch_embed", image, (3, config.width), config.patch, stride=config.patch, bias=True, same=False
    )
    x = g.op("Transpose", reshape(g, x, (batch, config.width, config.tokens - 1)), perm=[0, 2, 1])
    token = g.normal("cls_token", (1, 1, config.width), 0.02)
    if batch is None:
        shape = g.op("Concat", dim(g, x, 0), g.constant([1]), g.constant([config.width]), axis=0)
    else:
        shape = g.constant([batch, 1, config.width])
    x = g.op("Concat", g.op("Expand", token, shape), x, axis=1)
    return g.op("Add", x, g.normal("pos_embed", (1, config.tokens, config.width), 0.02))


def _attention(g: GraphBuilder, name: str, x: str, config: VitConfig, batch: int | None) -> str:
    """Multi-head self-attention with one matrix for queries, keys and values."""
    size = config.width // config.heads
    qkv = linear(g, f"{name}.qkv", x, (config.width, 3 * config.width))
    qkv = reshape(g, qkv, (batch, config.tokens, 3, config.heads, size))
    qkv = g.op("Transpose", qkv, perm=[2, 0, 3, 1, 4])
    parts = g.op_multi("Split", 3, qkv, g.constant([1, 1, 1]), axis=0)
    query, key, value = (g.op("Squeeze", part, g.constant([0])) for part in parts)
    query = g.op("Mul", query, g.constant(1 / math.sqrt(size), np.float32))
    scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
    context = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
    context = merge_heads(g, context, (batch, config.tokens, config.width))
    return linear(g, f"{name}.proj", context, (config.width, config.width))

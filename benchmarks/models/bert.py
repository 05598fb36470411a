"""BERT (Devlin et al., 2018, arXiv:1810.04805): the encoder with its pooler."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from .graph_builder import Dim, GraphBuilder
from .layers import dim, gelu, gemm, layer_norm, linear, merge_heads, split_heads

_EPSILON = 1e-12
# What a masked score becomes: the most negative float32, as the exporters write it.
_MASKED = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class BertConfig:
    """Sizes of the network.

    Attributes:
        width: features of a token.
        depth: transformer blocks.
        heads: attention heads.
        vocabulary: different tokens.
        positions: the longest sequence.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    vocabulary: int = 30522
    positions: int = 512


BERT_BASE = BertConfig()
BERT_REDUCED = BertConfig(width=64, depth=2, heads=2, vocabulary=100, positions=32)


def build_bert(config: BertConfig, batch: Dim = 1, sequence: Dim = 128) -> onnx.ModelProto:
    """input_ids, attention_mask, token_type_ids, all int64 [batch, sequence], to the states of the last layer
    [batch, sequence, width] and the pooled first token [batch, width].
    """
    g = GraphBuilder("bert")
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids, mask, types = (g.input(name, (batch, sequence), TensorProto.INT64) for name in names)
    shape = tuple(d if isinstance(d, int) else None for d in (batch, sequence))
    x = _embed(g, config, ids, types)
    bias = _mask_bias(g, mask)
    for index in range(config.depth):
        x = _block(g, f"encoder.layer.{index}", x, bias, config, shape)
    first = g.op("Gather", x, g.constant(0), axis=1)
    pooled = g.op("Tanh", gemm(g, "pooler", first, (config.width, config.width)))
    return g.build(
        {"last_hidden_state": x, "pooler_output": pooled},
        {"last_hidden_state": (batch, sequence, config.width), "pooler_output": (batch, config.width)},
    )


def _embed(g: GraphBuilder, config: BertConfig, ids: str, types: str) -> str:
    words = g.normal("embeddings.word", (config.vocabulary, config.width), 0.5)
    kinds = g.normal("embeddings.type", (2, config.width), 0.5)
    places = g.normal("embeddings.position", (config.positions, config.width), 0.5)
    x = g.op("Add", g.op("Gather", words, ids), g.op("Gather", kinds, types))
    numbers = g.constant(np.arange(config.positions)[None, :])
    used = g.op("Slice", numbers, g.constant([0]), dim(g, ids, 1), g.constant([1]))
    x = g.op("Add", x, g.op("Gather", places, used))
    return layer_norm(g, "embeddings.norm", x, config.width, _EPSILON)


def _mask_bias(g: GraphBuilder, mask: str) -> str:
    """0 where the mask is 1, the most negative number where it is 0: [batch, 1, 1, sequence]."""
    wide = g.op("Unsqueeze", g.op("Unsqueeze", mask, g.constant([1])), g.constant([2]))
    inverse = g.op("Sub", g.constant(1.0, np.float32), g.op("Cast", wide, to=TensorProto.FLOAT))
    return g.op("Mul", inverse, g.constant(_MASKED, np.float32))


def _block(
    g: GraphBuilder, name: str, x: str, bias: str, config: BertConfig, shape: tuple[int | None, ...]
) -> str:
    """Attention and feed-forward network, each followed by the sum with its input and layer norm."""
    y = _attention(g, f"{name}.attention", x, bias, config, shape)
    x = layer_norm(g, f"{name}.norm1", g.op("Add", y, x), config.width, _EPSILON)
    y = gelu(g, linear(g, f"{name}.intermediate", x, (config.width, 4 * config.width)))
    y = linear(g, f"{name}.output", y, (4 * config.width, config.width))
    return layer_norm(g, f"{name}.norm2", g.op("Add", y, x), config.width, _EPSILON)


def _attention(
    g: GraphBuilder, name: str, x: str, bias: str, config: BertConfig, shape: tuple[int | None, ...]
) -> str:
    """Multi-head self-attention with separate matrices for queries, keys and values."""
    size = config.width // config.heads
    heads = (*shape, config.heads, size)
    square = (config.width, config.width)
    query, key, value = (
        split_heads(g, linear(g, f"{name}.{part}", x, square), heads) for part in ("query", "key", "value")
    )
    scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = g.op("Add", g.op("Div", scores, g.constant(math.sqrt(size), np.float32)), bias)
    context = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
    return linear(g, f"{name}.dense", _merge(g, context, shape, config.width), square)


def _merge(g: GraphBuilder, context: str, shape: tuple[int | None, ...], width: int) -> str:
    return merge_heads(g, context, (*shape, width))

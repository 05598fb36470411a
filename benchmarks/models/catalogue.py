"""The architectures by name: full size for benchmarks, reduced for quick tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .bert import BERT_BASE, BERT_REDUCED, BertConfig, build_bert
from .convnext import CONVNEXT_REDUCED, CONVNEXT_T, build_convnext
from .graph_builder import Dim
from .mobilenet import MOBILENET_V2, MOBILENET_V2_REDUCED, build_mobilenet_v2
from .resnet import RESNET18, RESNET18_REDUCED, RESNET50, RESNET50_REDUCED, build_resnet
from .vit import VIT_REDUCED, VIT_S16, build_vit

Feed = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        full, reduced: build the model for a batch size, or for a symbolic batch.
        parameters: the published number of trained weights at full size.
        full_feed, reduced_feed: random input for a batch size and a seed.
    """

    full: Callable[[Dim], onnx.ModelProto]
    reduced: Callable[[Dim], onnx.ModelProto]
    parameters: int
    full_feed: Callable[[int, int], Feed]
    reduced_feed: Callable[[int, int], Feed]


def _images(size: int) -> Callable[[int, int], Feed]:
    def feed(batch: int, seed: int) -> Feed:
        random = np.random.default_rng(seed)
        return {"image": random.standard_normal((batch, 3, size, size), dtype=np.float32)}

    return feed


def token_feed(config: BertConfig, batch: int, sequence: int, seed: int) -> Feed:
    """Random tokens; each row's mask hides a random part of its end."""
    random = np.random.default_rng(seed)
    lengths = random.integers(sequence // 2, sequence + 1, size=(batch, 1))
    return {
        "input_ids": random.integers(0, config.vocabulary, (batch, sequence)),
        "attention_mask": (np.arange(sequence)[None, :] < lengths).astype(np.int64),
        "token_type_ids": random.integers(0, 2, (batch, sequence)),
    }


ARCHITECTURES: Mapping[str, Architecture] = {
    "resnet18": Architecture(
        full=lambda batch: build_resnet(RESNET18, batch),
        reduced=lambda batch: build_resnet(RESNET18_REDUCED, batch),
        parameters=11_689_512,
        full_feed=_images(RESNET18.image),
        reduced_feed=_images(RESNET18_REDUCED.image),
    ),
    "resnet50": Architecture(
        full=lambda batch: build_resnet(RESNET50, batch),
        reduced=lambda batch: build_resnet(RESNET50_REDUCED, batch),
        parameters=25_557_032,
        full_feed=_images(RESNET50.image),
        reduced_feed=_images(RESNET50_REDUCED.image),
    ),
    "mobilenet_v2": Architecture(
        full=lambda batch: build_mobilenet_v2(MOBILENET_V2, batch),
        reduced=lambda batch: build_mobilenet_v2(MOBILENET_V2_REDUCED, batch),
        parameters=3_504_872,
        full_feed=_images(MOBILENET_V2.image),
        reduced_feed=_images(MOBILENET_V2_REDUCED.image),
    ),
    "vit_s16": Architecture(
        full=lambda batch: build_vit(VIT_S16, batch),
        reduced=lambda batch: build_vit(VIT_REDUCED, batch),
        parameters=22_050_664,
        full_feed=_images(VIT_S16.image),
        reduced_feed=_images(VIT_REDUCED.image),
    ),
    "bert_base": Architecture(
        full=lambda batch: build_bert(BERT_BASE, batch),
        reduced=lambda batch: build_bert(BERT_REDUCED, batch, sequence=16),
        parameters=109_482_240,
        full_feed=lambda batch, seed: token_feed(BERT_BASE, batch, 128, seed),
        reduced_feed=lambda batch, seed: token_feed(BERT_REDUCED, batch, 16, seed),
    ),
    "convnext_t": Architecture(
        full=lambda batch: build_convnext(CONVNEXT_T, batch),
        reduced=lambda batch: build_convnext(CONVNEXT_REDUCED, batch),
        parameters=28_589_128,
        full_feed=_images(CONVNEXT_T.image),
        reduced_feed=_images(CONVNEXT_REDUCED.image),
    ),
}

"""Input for the models of ``relaxc.compiler.published_models``: noise in several shapes, and natural."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from relaxc.compiler.published_models import fetch

from ..natural_inputs import line_of_text, page_of_text, photograph, vowel

Feed = dict[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PublishedModel:
    """How to feed one real model.

    Attributes:
        shapes: of the inputs that hold data, for several calls; the first binds every symbolic dimension.
        natural: inputs of the kind that the model was trained for, for calls in a row, in the first shapes
            (those that ``state`` carries are missing).
        values: inputs that are settings rather than data.
        state: the input that takes the output of the call before, by the output's name.
        scale: standard deviation of random input.
        inner: values to compare beside the outputs, where these are saturated.
    """

    shapes: tuple[Shapes, ...]
    natural: Callable[[], list[Feed]]
    values: Feed = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    inner: tuple[str, ...] = ()

    def random(self, seed: int, shapes: Shapes | None = None) -> Feed:
        """Noise in the given shapes, by default the first."""
        generator = np.random.default_rng(seed)
        noise = {
            name: np.float32(self.scale) * generator.standard_normal(shape, dtype=np.float32)
            for name, shape in (shapes or self.shapes[0]).items()
        }
        return {**noise, **self.values}

    def first_state(self) -> Feed:
        """What the state inputs of the first call in a row hold: zeros."""
        return {name: np.zeros(self.shapes[0][name], np.float32) for name in self.state.values()}


def load(name: str) -> onnx.ModelProto:
    """A published model, with its inner values of interest as further outputs."""
    model = onnx.load(fetch(name))
    for value in FEEDS[name].inner:
        model.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    return model


def _images(
    name: str,
    *shapes: tuple[int, ...],
    natural: Callable[[], NDArray[Any]],
    inner: tuple[str, ...] = (),
) -> PublishedModel:
    calls = tuple({name: shape} for shape in shapes)
    return PublishedModel(calls, natural=lambda: [{name: natural()}], inner=inner)


def _voice_detector(*batches: int, window: int = 576, rate: int | None = 16000) -> PublishedModel:
    """A detector that is called with 32 ms of sound after the end of the sound before, and its own state."""
    values = {} if rate is None else {"sr": np.array(rate, np.int64)}
    step = window * 8 // 9

    def windows() -> list[Feed]:
        sound = vowel(window + 7 * step, rate or 16000)
        return [{"input": sound[None, i * step : i * step + window], **values} for i in range(8)]

    return PublishedModel(
        tuple({"input": (batch, window), "state": (2, batch, 128)} for batch in batches),
        natural=windows,
        values=values,
        state={"stateN": "state"},
        scale=0.1,
    )


def _sequence_voice_detector() -> PublishedModel:
    """The detector that takes a whole recording, a window a row."""
    memory = {"h": (1, 1, 128), "c": (1, 1, 128)}

    def recording() -> list[Feed]:
        sound = vowel(64 + 16 * 512)
        rows = [sound[i * 512 : i * 512 + 576] for i in range(16)]
        return [{"input": np.stack(rows[:8])}, {"input": np.stack(rows[8:])}]

    return PublishedModel(
        tuple({"input": (rows, 576), **memory} for rows in (8, 3, 1)),
        natural=recording,
        state={"hn": "h", "cn": "c"},
        scale=0.1,
    )


FEEDS: Mapping[str, PublishedModel] = {
    "ppocr_v4_det": _images(
        "x",
        (1, 3, 96, 256),
        (2, 3, 64, 64),
        (1, 3, 128, 96),
        natural=lambda: page_of_text(96, 256),
        # The logits: on anything but text the probabilities are zero.
        inner=("p2o.Add.281",),
    ),
    "ppocr_v4_rec": _images(
        "x", (1, 3, 48, 160), (2, 3, 48, 96), (1, 3, 48, 328), natural=lambda: line_of_text(160)
    ),
    "ppocr_v2_cls": _images(
        "x", (1, 3, 48, 192), (3, 3, 48, 192), (2, 3, 48, 96), natural=lambda: line_of_text(192)
    ),
    "nudenet_320n": _images(
        "images", (1, 3, 128, 160), (2, 3, 64, 64), (1, 3, 160, 96), natural=lambda: photograph(128, 160)
    ),
    "silero_vad": _voice_detector(1, 3),
    "silero_vad_16k_op15": _voice_detector(1, 3),
    "silero_vad_16k_sequence": _sequence_voice_detector(),
    "silero_vad_half": _voice_detector(1, 3, rate=None),
    "silero_vad_op18_ifless": _voice_detector(1, 3),
    "silero_vad_openvino_16k": _voice_detector(1, rate=None),
}

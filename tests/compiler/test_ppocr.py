"""The pixels that go into PP-OCR's recogniser, and the text that comes out of its probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from relaxc.compiler.ppocr import CtcDecoder, recogniser_input, render_line
from relaxc.runtime.errors import InvalidModelError, RelaxcError


def _probabilities(*classes: int) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[list(classes)][None]


def test_white_is_one_black_is_minus_one_and_the_padding_is_zero() -> None:
    line = Image.new("RGB", (100, 48), "white")
    line.paste((0, 0, 0), (0, 0, 50, 48))
    pixels = recogniser_input(line)
    assert pixels.shape == (1, 3, 48, 320)
    assert (pixels[..., :48] == -1).all()
    assert (pixels[..., 52:100] == 1).all()
    assert (pixels[..., 100:] == 0).all()


def test_a_line_is_scaled_to_48_rows_and_its_width_padded_to_a_multiple_of_32() -> None:
    assert recogniser_input(Image.new("RGB", (400, 24))).shape == (1, 3, 48, 800)
    assert recogniser_input(Image.new("RGB", (401, 48))).shape == (1, 3, 48, 416)


def test_a_longer_text_makes_a_wider_line() -> None:
    short, long = render_line("ab"), render_line("ab" * 10)
    assert short.height == long.height == 48
    assert long.width > 5 * short.width


def test_there_must_be_text_to_render() -> None:
    with pytest.raises(RelaxcError, match="no text"):
        render_line("  ")


def test_repetitions_merge_unless_a_blank_parts_them() -> None:
    decode = CtcDecoder(["", "a", "b", " "])
    assert decode(_probabilities(1, 1, 0, 1, 2, 2, 3, 0, 2)) == "aab b"


def test_the_alphabet_is_the_blank_the_models_characters_and_the_space(tmp_path: Path) -> None:
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    onnx.helper.set_model_props(model, {"character": "x\ny"})
    onnx.save(model, tmp_path / "model.onnx")
    assert CtcDecoder.from_model(tmp_path / "model.onnx").alphabet == ["", "x", "y", " "]


def test_a_model_without_characters_is_refused(tmp_path: Path) -> None:
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(InvalidModelError, match="no list of characters"):
        CtcDecoder.from_model(tmp_path / "model.onnx")

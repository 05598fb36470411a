"""Inputs like those that the models were trained for: photographs, lines of text, speech."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from relaxc.compiler.ppocr import recogniser_input, render_line
from relaxc.compiler.published_models import WheelFile, fetch_from_wheel

Array = NDArray[np.float32]

_ASTRONAUT = WheelFile(
    "scikit-image==0.26.0",
    "skimage/data/astronaut.png",
    "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
)
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def photograph(height: int, width: int) -> Array:
    """The photograph of a person that scikit-image ships, as [1, 3, height, width] from 0 to 1."""
    image = Image.open(fetch_from_wheel(_ASTRONAUT)).convert("RGB").resize((width, height))
    return _channels_first(np.asarray(image, np.float32) / np.float32(255))


def page_of_text(height: int, width: int) -> Array:
    """Lines of black text on white, [1, 3, height, width], with ImageNet's mean taken away and divided by its
    deviation, as PP-OCR's detector takes it.
    """
    page = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(28)
    for line, top in enumerate(range(10, height - 40, 42)):
        draw.text((10, top), f"Line {line + 1} of text", fill="black", font=font)
    return _channels_first((np.asarray(page, np.float32) / 255 - _IMAGENET_MEAN) / _IMAGENET_DEVIATION)


def _channels_first(pixels: NDArray[np.floating]) -> Array:
    """[height, width, channels] to [1, channels, height, width]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def line_of_text(width: int = 320) -> Array:
    """The left part of a rendered line, as PP-OCR's recogniser takes it: [1, 3, 48, width], from -1 to 1."""
    return np.ascontiguousarray(recogniser_input(render_line("Reads 1, 2, 3 lines of text"))[..., :width])


def vowel(samples: int, rate: int = 16000) -> Array:
    """A sung vowel, [samples], from -1 to 1: pulses of a voice at 120 Hz through three formants of /a/,
    switched on and off four times a second as syllables are.
    """
    time = np.arange(samples) / rate
    phase = 2 * np.pi * np.cumsum(120 + 5 * np.sin(2 * np.pi * 5 * time)) / rate
    harmonics = np.arange(1, 30)
    formants, bandwidths = np.array([700, 1220, 2600]), np.array([130, 160, 250])
    distance = (120 * harmonics[:, None] - formants) / bandwidths
    gains = (1 / (1 + distance**2)).sum(axis=1) / harmonics
    voice = (gains[:, None] * np.sin(harmonics[:, None] * phase)).sum(axis=0)
    syllables = 0.5 * (1 + np.sin(2 * np.pi * 4 * time))
    sound = voice * syllables
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)

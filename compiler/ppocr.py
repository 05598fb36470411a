"""What surrounds PP-OCR's text recogniser: a rendered line of text, its pixels as input, its output as text.

Source: PaddleOCR's recognition pipeline (RecResizeImg and CTCLabelDecode).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InvalidModelError, RelaxcError

if TYPE_CHECKING:
    from PIL import Image

LINE_HEIGHT = 48
_MIN_WIDTH = 320
_WIDTH_MULTIPLE = 32
_FONT_SIZE = 32


def render_line(text: str) -> Image.Image:
    """Black text on white, in Pillow's own font, with narrow margins.

    Raises:
        RelaxcError: Pillow is not installed, or there is no text.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise RelaxcError("rendering text needs Pillow: pip install 'relaxc[demo]'") from error
    if not text.strip():
        raise RelaxcError("there is no text to render: pass at least one visible character")
    font = ImageFont.load_default(_FONT_SIZE)
    left, _, right, _ = font.getbbox(text)
    margin = _FONT_SIZE // 8
    image = Image.new("RGB", (int(right - left) + 2 * margin, LINE_HEIGHT), "white")
    ImageDraw.Draw(image).text((margin - left, LINE_HEIGHT / 2), text, fill="black", font=font, anchor="lm")
    return image


def recogniser_input(line: Image.Image) -> NDArray[np.float32]:
    """A picture of one line as the recogniser takes it: [1, 3, 48, width], from -1 (black) to 1 (white).

    The width is padded with zeros to a multiple of 32 that is at least 320.
    """
    width = max(1, round(line.width * LINE_HEIGHT / line.height))
    pixels = np.asarray(line.resize((width, LINE_HEIGHT)), np.float32).transpose(2, 0, 1)
    padded_width = max(_MIN_WIDTH, -(-width // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE)
    padded = np.zeros((1, 3, LINE_HEIGHT, padded_width), np.float32)
    padded[0, :, :, :width] = (pixels / 255 - 0.5) / 0.5
    return padded


@dataclass(frozen=True)
class CtcDecoder:
    """Reads the text out of the recogniser's probabilities.

    Attributes:
        alphabet: the text of each class; class 0 is the blank of connectionist temporal classification
            (Graves et al., 2006).
    """

    alphabet: Sequence[str]

    @classmethod
    def from_model(cls, model: Path) -> CtcDecoder:
        """The decoder whose characters the model's own metadata lists.

        Raises:
            InvalidModelError: the model carries no character list.
        """
        import onnx

        properties = onnx.load(model, load_external_data=False).metadata_props
        lists = [entry.value for entry in properties if entry.key == "character"]
        if not lists:
            raise InvalidModelError(f"{model} carries no list of characters in its metadata ('character')")
        return cls(["", *lists[0].split("\n"), " "])

    def __call__(self, probabilities: NDArray[Any]) -> str:
        """The likeliest text: the best class of each step, with repetitions and then blanks removed.

        Args:
            probabilities: [1, steps, classes].
        """
        best = probabilities[0].argmax(axis=-1)
        changed = np.diff(best, prepend=-1) != 0
        return "".join(self.alphabet[index] for index in best[changed])

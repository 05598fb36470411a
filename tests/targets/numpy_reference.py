"""Operators on windows of feature maps in NumPy, in float64, written for clarity alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


@dataclass(frozen=True)
class Window:
    """What a convolution or pooling slides over a map.

    Attributes:
        size, strides, dilation: (height, width).
        padding: (top, left, bottom, right).
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]

    @property
    def extents(self) -> tuple[int, int]:
        """The height and width that the window covers, with the holes of its dilation."""
        (R, S), (dilation_h, dilation_w) = self.size, self.dilation
        return (R - 1) * dilation_h + 1, (S - 1) * dilation_w + 1


def windows(x: np.ndarray, window: Window, fill: float) -> np.ndarray:
    """The elements of x [N, C, H, W] under each position of ``window``: [N, C, OH, OW, R, S] in float64."""
    top, left, bottom, right = window.padding
    padded = np.pad(
        x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill
    )
    dense = sliding_window_view(padded, window.extents, axis=(2, 3))
    (stride_h, stride_w), (dilation_h, dilation_w) = window.strides, window.dilation
    return np.asarray(dense[:, :, ::stride_h, ::stride_w, ::dilation_h, ::dilation_w])


def conv2d(x: np.ndarray, weight: np.ndarray, window: Window, groups: int = 1) -> np.ndarray:
    """Convolution of x [N, C, H, W] with weight [O, C / groups, R, S]; returns [N, O, OH, OW]."""
    patches = windows(x, window, 0.0)
    N, _, OH, OW, R, S = patches.shape
    O, I = weight.shape[:2]  # noqa: E741 - the layout's own letters
    grouped = patches.reshape(N, groups, I, OH, OW, R, S)
    filters = weight.astype(np.float64).reshape(groups, O // groups, I, R, S)
    return np.asarray(np.einsum("ngihwrs,goirs->ngohw", grouped, filters)).reshape(N, O, OH, OW)

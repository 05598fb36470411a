"""Operators on windows of feature maps in NumPy, in float64, written for clarity alone."""

from __future__ import annotations

from collections.abc import Sequence
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


def conv3d(
    x: np.ndarray,
    weight: np.ndarray,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> np.ndarray:
    """Convolution of x [N, C, D, H, W] with weight [O, C, Q, R, S]; returns [N, O, OD, OH, OW].

    ``padding`` is (front, top, left, back, bottom, right).
    """
    around = [(0, 0), (0, 0), *zip(padding[:3], padding[3:], strict=True)]
    extents = [(taps - 1) * hole + 1 for taps, hole in zip(weight.shape[2:], dilation, strict=True)]
    dense = sliding_window_view(np.pad(x.astype(np.float64), around), extents, axis=(2, 3, 4))
    steps = tuple(slice(None, None, step) for step in (*strides, *dilation))
    patches = dense[(slice(None), slice(None), *steps)]
    return np.asarray(np.einsum("ncdhwqrs,ocqrs->nodhw", patches, weight.astype(np.float64)))


def conv2d_transpose(
    x: np.ndarray, weight: np.ndarray, window: Window, output_padding: tuple[int, int], groups: int = 1
) -> np.ndarray:
    """Transposed convolution of x [N, C, H, W] with weight [C, O / groups, R, S]; returns [N, O, OH, OW]."""
    N, C, H, W = x.shape
    O, R, S = weight.shape[1] * groups, *weight.shape[2:]  # noqa: E741
    (stride_h, stride_w), (hole_h, hole_w) = window.strides, window.dilation
    top, left, bottom, right = window.padding
    whole = np.zeros((N, O, (H - 1) * stride_h + window.extents[0], (W - 1) * stride_w + window.extents[1]))
    whole = np.pad(whole, ((0, 0), (0, 0), (0, output_padding[0]), (0, output_padding[1])))
    maps = x.astype(np.float64).reshape(N, groups, C // groups, H, W)
    taps = weight.astype(np.float64).reshape(groups, C // groups, O // groups, R, S)
    for r, s in np.ndindex(R, S):
        spread = np.einsum("ngihw,gio->ngohw", maps, taps[..., r, s]).reshape(N, O, H, W)
        rows, columns = r * hole_h, s * hole_w
        whole[:, :, rows : rows + H * stride_h : stride_h, columns : columns + W * stride_w : stride_w] += (
            spread
        )
    return np.asarray(whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right])

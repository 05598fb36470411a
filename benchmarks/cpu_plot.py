"""The picture of ``python -m benchmarks.cpu --plot``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from .cpu import Result


def plot(results: Sequence[Result], path: Path) -> None:
    """Bars of each peer's speed relative to relaxc's, whose speed is the line at 1."""
    peers = [peer for peer in results[0].milliseconds if peer != "relaxc"]
    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    places, width = np.arange(len(results)), 0.8 / len(peers)
    for number, peer in enumerate(peers):
        offset = (number - (len(peers) - 1) / 2) * width
        axes.bar(places + offset, [_relative_speed(result, peer) for result in results], width, label=peer)
    axes.axhline(1, color="black", label="relaxc")
    axes.set_xticks(places, [_label(result) for result in results], rotation=30, ha="right")
    axes.set_ylabel("speed, relaxc = 1")
    axes.set_ylim(top=1.05 * max(1, axes.get_ylim()[1]))
    figure.legend(ncols=len(peers) + 1, loc="outside upper center")
    figure.savefig(path, dpi=120)


def _relative_speed(result: Result, peer: str) -> float:
    return result.milliseconds["relaxc"] / result.milliseconds.get(peer, float("inf"))


def _label(result: Result) -> str:
    return result.model if result.batch == 1 else f"{result.model} x{result.batch}"

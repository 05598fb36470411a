"""Products of states and recurrent weights, and walks over the hidden units, both in vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from .extents import Extent

if TYPE_CHECKING:
    from .recurrent_cells import Memory, Recurrence

WIDEST = 16
"""Lanes of the widest vectors; TVM splits them where the processor's are narrower."""
SUMS = 16
"""How many vectors of sums stay in registers."""


@dataclass(frozen=True)
class Place:
    """A sequence of the batch, and a step of it."""

    sequence: Any
    time: Any


@dataclass(frozen=True)
class Piece:
    """A run of hidden units: ``blocks`` vectors of ``width`` from ``start`` on."""

    start: int
    blocks: int
    width: int


def pieces(hidden: int) -> Iterator[Piece]:
    """All hidden units: as many as possible in the widest vectors, the rest in narrower and narrower ones."""
    start, width = 0, WIDEST
    while start < hidden:
        blocks = (hidden - start) // width
        if blocks:
            yield Piece(start, blocks, width)
        start, width = start + blocks * width, width // 2


def over_vectors(hidden: int, emit: Callable[[Any], None]) -> None:
    """Emits ``emit(j)`` for all hidden units j, in vectors."""
    for piece in pieces(hidden):
        with T.serial(0, piece.blocks) as block, T.vectorized(0, piece.width) as lane:
            emit(piece.start + block * piece.width + lane)


def sequences_in_a_tile(batch: Extent, gates: int) -> int:
    """How many sequences go through time together and share each load of a weight."""
    if not isinstance(batch, int):
        return 1
    return next(rows for rows in range(max(1, SUMS // gates), 0, -1) if batch % rows == 0)


def pack_recurrent_weight(weight: np.ndarray, gates: int) -> np.ndarray:
    """[gates * hidden, hidden] in the order in which it is read, as one row of numbers.

    For each piece [blocks, hidden, gates, width]: a step of a sum finds all gates of its units side by side.
    """
    hidden = weight.shape[1]
    by_gate = weight.reshape(gates, hidden, hidden)
    parts = []
    for piece in pieces(hidden):
        units = by_gate[:, piece.start : piece.start + piece.blocks * piece.width]
        blocked = units.reshape(gates, piece.blocks, piece.width, hidden)
        parts.append(blocked.transpose(1, 3, 0, 2).reshape(-1))
    return np.concatenate(parts) if parts else weight.reshape(-1)


def add_products(
    r: Recurrence,
    memory: Memory,
    tile: Sequence[Place],
    gates: Sequence[int],
    state: Any,
    start: Callable[[Place, int, Any], Any] | None = None,
) -> None:
    """scratch = start + state @ recurrent weight, for the columns of ``gates``.

    Args:
        r, memory: the layer.
        tile: the sequences that share each load of a weight.
        gates: which.
        state: [batch, hidden].
        start: what a sum starts from, by place, gate and column; the projected input if not given.
    """
    begin = start or (lambda place, _, column: memory.projected[place.time, place.sequence, column])
    for piece in pieces(r.hidden):
        with T.serial(0, piece.blocks) as block:
            first = piece.start + block * piece.width
            for place in tile:
                for gate in gates:
                    with T.vectorized(0, piece.width) as lane:
                        column = gate * r.hidden + first + lane
                        memory.scratch[place.sequence, column] = begin(place, gate, column)
            with T.serial(0, r.hidden) as k:
                for place in tile:
                    for gate in gates:
                        with T.vectorized(0, piece.width) as lane:
                            column = gate * r.hidden + first + lane
                            weight = _weight(r, memory, piece, (block, k, gate, lane))
                            total = memory.scratch[place.sequence, column] + state[place.sequence, k] * weight
                            memory.scratch[place.sequence, column] = total


def _weight(r: Recurrence, memory: Memory, piece: Piece, place: tuple[Any, Any, int, Any]) -> Any:
    """From unit k of the last step to a gate of this unit; ``place`` is (block, k, gate, lane)."""
    block, k, gate, lane = place
    if not r.packed:
        return memory.weight[k, gate * r.hidden + piece.start + block * piece.width + lane]
    gates = memory.weight.shape[0] // (r.hidden * r.hidden)
    offset = piece.start * r.hidden * gates
    return memory.weight[offset + ((block * r.hidden + k) * gates + gate) * piece.width + lane]

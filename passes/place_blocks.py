"""Where blocks of memory, each in use for some time, lie in one memory that is as small as possible."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter


@dataclass
class Block:
    """Memory that is in use for some time.

    Attributes:
        nbytes: its size.
        first, last: the points in time between which it is in use, both included.
    """

    nbytes: int
    first: int
    last: int


def place_blocks(blocks: Sequence[Block]) -> list[int]:
    """An offset for each block, such that blocks in use at the same time do not overlap.

    The largest come first, each into the smallest gap that it fits into: "greedy by size" of Pisarchyk and
    Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
    """
    placed: list[tuple[int, Block]] = []
    offsets = [0] * len(blocks)
    for index in sorted(range(len(blocks)), key=lambda index: (-blocks[index].nbytes, index)):
        offsets[index] = _smallest_gap(blocks[index], placed)
        insort(placed, (offsets[index], blocks[index]), key=itemgetter(0))
    return offsets


def _smallest_gap(block: Block, placed: Sequence[tuple[int, Block]]) -> int:
    """The offset of the smallest sufficient gap between the ``placed`` blocks, which go by their offsets."""
    end = 0
    gaps = []
    for offset, other in placed:
        if other.last < block.first or block.last < other.first:
            continue
        if offset - end >= block.nbytes:
            gaps.append((offset - end, end))
        end = max(end, offset + other.nbytes)
    return min(gaps)[1] if gaps else end

"""Blocks of memory that are in use at the same time do not overlap, and gaps are used."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from relaxc.passes.place_blocks import Block, place_blocks


def extent(blocks: list[Block]) -> int:
    offsets = place_blocks(blocks)
    return max(offset + block.nbytes for offset, block in zip(offsets, blocks, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_blocks_in_use_at_the_same_time_do_not_overlap(seed: int) -> None:
    generator = np.random.default_rng(seed)
    blocks = []
    for _ in range(40):
        first, length = (int(number) for number in generator.integers(0, 30, 2))
        blocks.append(Block(64 * int(generator.integers(0, 9)), first, first + length))
    placed = zip(place_blocks(blocks), blocks, strict=True)
    for (offset, block), (other_offset, other) in itertools.combinations(placed, 2):
        apart_in_time = block.last < other.first or other.last < block.first
        apart_in_space = offset + block.nbytes <= other_offset or other_offset + other.nbytes <= offset
        assert apart_in_time or apart_in_space


def test_a_chain_needs_no_more_than_its_largest_neighbours() -> None:
    sizes = [64, 640, 128, 512, 64, 320]
    chain = [Block(size, time, time + 1) for time, size in enumerate(sizes)]
    assert extent(chain) == max(first + second for first, second in itertools.pairwise(sizes))


def test_the_smallest_gap_that_suffices_is_taken() -> None:
    lasting = [Block(size, 0, 9) for size in (4096, 2048, 1024)]
    early = [Block(3072, 0, 3), Block(1536, 0, 3)]
    late = Block(640, 5, 9)
    offsets = place_blocks([*lasting, *early, late])
    assert offsets == [0, 7168, 9216 + 1536, 4096, 9216, 9216]


def test_nothing_needs_no_place() -> None:
    assert place_blocks([]) == []

"""Broken copies of sound files: which file, broken in which way, by which draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from . import (  # noqa: F401 - they enter what they define into the table
    attribute_mutations,
    edge_mutations,
    external_data_mutations,
    structure_mutations,
    tensor_mutations,
)
from .byte_mutations import BYTE_MUTATIONS
from .corpus import SoundFile
from .external_data_mutations import write_external_data
from .mutation_table import GRAPH_MUTATIONS

MUTATIONS = (*BYTE_MUTATIONS, *GRAPH_MUTATIONS)


@dataclass(frozen=True)
class MutatedFile:
    """A broken copy.

    Attributes:
        sound: what it is a copy of.
        mutation: one of ``MUTATIONS``.
        seed: of what the mutation draws; also its number.
    """

    sound: SoundFile
    mutation: str
    seed: int

    @property
    def name(self) -> str:
        """Number, mutation and model."""
        return f"{self.seed:05}-{self.mutation}-{self.sound.name}"

    def write(self, folder: Path) -> Path:
        """Writes the copy, and what it may refer to, into an empty folder; returns the model's path."""
        path = folder / "model.onnx"
        path.write_bytes(self.data())
        write_external_data(folder)
        return path

    def data(self) -> bytes:
        """The content. A model that has nothing for the mutation to change gets some bits flipped."""
        generator = np.random.default_rng(self.seed)
        if self.mutation in BYTE_MUTATIONS:
            return BYTE_MUTATIONS[self.mutation](self.sound.data, generator)
        model = onnx.ModelProto.FromString(self.sound.data)
        changed = GRAPH_MUTATIONS[self.mutation](model, generator)
        data: bytes = model.SerializeToString()
        return data if changed else BYTE_MUTATIONS["flip_bits"](data, generator)


def mutated_files(corpus: Sequence[SoundFile], first: int, count: int) -> list[MutatedFile]:
    """Copies of all files, broken in all ways in turn; the same ones for the same seeds.

    Args:
        corpus: what to break.
        first, count: the seeds.
    """
    return [
        MutatedFile(corpus[_scattered(seed, len(corpus))], MUTATIONS[seed % len(MUTATIONS)], seed)
        for seed in range(first, first + count)
    ]


def _scattered(seed: int, count: int) -> int:
    """A place that owes nothing to the mutation's, whatever the two numbers have in common."""
    return int(np.random.default_rng((seed, 1)).integers(count))

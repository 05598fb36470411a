"""Broken copies: each is broken, the same for the same seed, and of a form that the mutation's name says."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from benchmarks.fuzz.byte_mutations import BYTE_MUTATIONS
from benchmarks.fuzz.corpus import SoundFile
from benchmarks.fuzz.mutated import MUTATIONS, MutatedFile, mutated_files

MODEL = parser.parse_model(
    """<ir_version: 8, opset_import: ["": 17]>
    graph (float[n, 4] x) => (float[n, 2] z)
    <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] v = {1, 2}> {
        a = MatMul(x, w) b = LeakyRelu<alpha = 0.5>(a) c = Add(b, v) z = Transpose<perm = [0, 1]>(c)
    }"""
)
SOUND = SoundFile("model", MODEL.SerializeToString())


def broken(mutation: str, seed: int = 3) -> bytes:
    return MutatedFile(SOUND, mutation, seed).data()


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_copy_is_broken_and_the_same_for_the_same_seed(mutation: str) -> None:
    assert broken(mutation) == broken(mutation)
    assert any(broken(mutation, seed) != SOUND.data for seed in range(20))


@pytest.mark.parametrize("mutation", BYTE_MUTATIONS)
@pytest.mark.parametrize("size", [2, 100])
def test_mutations_of_bytes_take_short_files(mutation: str, size: int) -> None:
    for seed in range(20):
        MutatedFile(SoundFile("small", bytes(size)), mutation, seed).data()


def test_a_cycle_is_a_cycle() -> None:
    nodes = onnx.ModelProto.FromString(broken("cycle")).graph.node
    produced = {"x", "w", "v"}
    late = []
    for node in nodes:
        late += [name for name in node.input if name not in produced]
        produced |= set(node.output)
    assert late


def test_duplicates_are_duplicates() -> None:
    graph = onnx.ModelProto.FromString(broken("duplicate_initializer")).graph
    names = [tensor.name for tensor in graph.initializer]
    assert len(set(names)) < len(names)


def test_files_are_broken_in_all_ways_in_turn() -> None:
    files = mutated_files([SOUND], 0, 2 * len(MUTATIONS))
    assert [file.mutation for file in files] == [*MUTATIONS, *MUTATIONS]
    assert len({file.name for file in files}) == len(files)


def test_a_range_of_seeds_is_part_of_a_larger_one() -> None:
    assert mutated_files([SOUND], 5, 3) == mutated_files([SOUND], 0, 10)[5:8]


def test_the_copy_lies_in_the_folder_that_is_given(tmp_path: Path) -> None:
    path = MutatedFile(SOUND, "truncate", 1).write(tmp_path)
    assert path.parent == tmp_path
    assert path.read_bytes() == broken("truncate", 1)

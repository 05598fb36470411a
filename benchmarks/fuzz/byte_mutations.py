"""Ways to break a file without knowing what is in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Generator = np.random.Generator
ByteMutation = Callable[[bytes, Generator], bytes]

BYTE_MUTATIONS: dict[str, ByteMutation] = {}


def _breaks(mutation: ByteMutation) -> ByteMutation:
    BYTE_MUTATIONS[mutation.__name__] = mutation
    return mutation


@_breaks
def flip_bits(data: bytes, generator: Generator) -> bytes:
    """One to eight bits anywhere."""
    broken = np.frombuffer(data, np.uint8).copy()
    for place in _places(data, generator, int(generator.integers(1, 9))):
        broken[place] ^= 1 << int(generator.integers(8))
    return broken.tobytes()


@_breaks
def flip_bits_of_structure(data: bytes, generator: Generator) -> bytes:
    """One to eight bits near names, where fields, lengths and types stand rather than weights."""
    broken = bytearray(data)
    names = [place for place in _places(data, generator, 4096) if 97 <= data[place] <= 122]
    for name in names[: int(generator.integers(1, 9))]:
        place = int(np.clip(name + generator.integers(-12, 13), 0, len(data) - 1))
        broken[place] ^= 1 << int(generator.integers(8))
    return bytes(broken)


@_breaks
def truncate(data: bytes, generator: Generator) -> bytes:
    return data[: int(generator.integers(len(data)))]


@_breaks
def truncate_a_little(data: bytes, generator: Generator) -> bytes:
    return data[: -int(generator.integers(1, min(64, len(data))))]


@_breaks
def remove_range(data: bytes, generator: Generator) -> bytes:
    start, length = _range(data, generator)
    return data[:start] + data[start + length :]


@_breaks
def repeat_range(data: bytes, generator: Generator) -> bytes:
    start, length = _range(data, generator)
    return data[: start + length] + data[start:]


@_breaks
def move_range(data: bytes, generator: Generator) -> bytes:
    start, length = _range(data, generator)
    rest = data[:start] + data[start + length :]
    target = int(generator.integers(len(rest) + 1))
    return rest[:target] + data[start : start + length] + rest[target:]


@_breaks
def overwrite_range(data: bytes, generator: Generator) -> bytes:
    start, length = _range(data, generator)
    return data[:start] + generator.bytes(length) + data[start + length :]


@_breaks
def zero_range(data: bytes, generator: Generator) -> bytes:
    start, length = _range(data, generator)
    return data[:start] + bytes(length) + data[start + length :]


@_breaks
def append_noise(data: bytes, generator: Generator) -> bytes:
    return data + generator.bytes(int(generator.integers(1, 256)))


@_breaks
def wrong_length(data: bytes, generator: Generator) -> bytes:
    """The length of the graph, or of one of its first parts, is another."""
    broken = bytearray(data)
    starts = [place for place in range(min(len(data) - 1, 4096)) if data[place] in (0x0A, 0x12, 0x2A, 0x3A)]
    broken[int(generator.choice(starts or [0])) + 1] = int(generator.integers(256))
    return bytes(broken)


@_breaks
def another_file(data: bytes, generator: Generator) -> bytes:
    """What is no model at all: nothing, zeros, text, an archive, noise."""
    contents = (
        b"",
        bytes(1000),
        b"<html>not found</html>\n" * 40,
        b"PK\x03\x04" + data[:500],
        generator.bytes(5000),
    )
    return contents[int(generator.integers(len(contents)))]


def _places(data: bytes, generator: Generator, count: int) -> list[int]:
    return [int(place) for place in generator.integers(len(data), size=count)]


def _range(data: bytes, generator: Generator) -> tuple[int, int]:
    """A start and a length, short ones as often as long ones."""
    length = int(2 ** generator.uniform(0, np.log2(max(len(data) // 2, 2))))
    return int(generator.integers(max(len(data) - length, 1))), length

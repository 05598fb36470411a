"""Random numbers in a kernel: the Mersenne Twister, seeded and read as NumPy's RandomState does.

So a model with a seed draws the same numbers in every implementation that follows NumPy, onnx's reference
among them. Matsumoto and Nishimura, "Mersenne Twister" (1998); normal numbers by Marsaglia's polar method.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from .extents import Extent
from .loops import loop, loop_kernel, when
from .node import Node

_WORDS = 624
_SHIFT = 397


def seed_of(node: Node) -> int:
    """The node's seed; without one, a number of its own that is the same in every compilation."""
    if node.has_attribute("seed"):
        return int(node.number("seed")) & 0xFFFFFFFF
    return zlib.crc32(node.outputs[0].encode())


class _Twister:
    """Emits the generator's statements on a buffer of the state and one of registers."""

    def __init__(self, words: Any, position: Any) -> None:
        self._words = words
        self._position = position

    def start(self, initial: Any) -> None:
        with loop(_WORDS) as word:
            self._words[word] = initial[word]
        self._position[0] = _int(_WORDS)

    def word_into(self, registers: Any, place: int) -> None:
        """Draws 32 bits."""
        with when(self._position[0] >= _WORDS):
            self._renew()
        y = self._words[self._position[0]]
        y = y ^ tirx.shift_right(y, _int(11))
        y = y ^ (tirx.shift_left(y, _int(7)) & _int(0x9D2C5680))
        y = y ^ (tirx.shift_left(y, _int(15)) & _int(0xEFC60000))
        registers[place] = y ^ tirx.shift_right(y, _int(18))
        self._position[0] = self._position[0] + 1

    def _renew(self) -> None:
        with loop(_WORDS) as word:
            following = self._words[tirx.floormod(word + 1, _WORDS)]
            mixed = (self._words[word] & _int(0x80000000)) | (following & _int(0x7FFFFFFF))
            odd = (mixed & _int(1)) * _int(0x9908B0DF)
            other = self._words[tirx.floormod(word + _SHIFT, _WORDS)]
            self._words[word] = other ^ tirx.shift_right(mixed, _int(1)) ^ odd
        self._position[0] = _int(0)

    def double(self, registers: Any) -> Expr:
        """Draws a number from [0, 1) with 53 bits."""
        self.word_into(registers, 0)
        self.word_into(registers, 1)
        high = tirx.shift_right(registers[0], _int(5)).astype("float64")
        low = tirx.shift_right(registers[1], _int(6)).astype("float64")
        return (high * _real(67108864.0) + low) / _real(9007199254740992.0)


def uniform(node: Node, count: Extent, seed: int) -> Expr:
    """``count`` numbers from [0, 1), as float64."""

    def draw(twister: _Twister, registers: Any, _: Any, result: Any) -> None:
        with loop(count) as place:
            result[place] = twister.double(registers)

    return _drawn(node, count, seed, draw, "uniform")


def normal(node: Node, count: Extent, seed: int) -> Expr:
    """``count`` numbers of mean 0 and deviation 1, as float64."""

    def draw(twister: _Twister, registers: Any, reals: Any, result: Any) -> None:
        with loop(count) as place, T.If(tirx.floormod(place, 2) == 1):
            with T.Then():
                result[place] = reals[3]
            with T.Else():
                _polar_pair(twister, registers, reals)
                result[place] = reals[4]

    return _drawn(node, count, seed, draw, "normal")


def _polar_pair(twister: _Twister, registers: Any, reals: Any) -> None:
    """Two normal numbers: the one to use first goes to reals[4], the other to reals[3]."""
    reals[2] = _real(2.0)
    with T.While(tirx.any(reals[2] >= _real(1.0), reals[2] == _real(0.0))):
        for place in (0, 1):
            reals[place] = _real(2.0) * twister.double(registers) - _real(1.0)
        reals[2] = reals[0] * reals[0] + reals[1] * reals[1]
    factor = tirx.sqrt(_real(-2.0) * tirx.log(reals[2]) / reals[2])
    reals[3] = factor * reals[0]
    reals[4] = factor * reals[1]


Draw = Callable[[_Twister, Any, Any, Any], None]


def _drawn(node: Node, count: Extent, seed: int, draw: Draw, name: str) -> Expr:
    state = np.asarray(np.random.RandomState(seed).get_state()[1], np.int64)  # type: ignore[index]

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        result, words, position, registers, reals = outputs
        twister = _Twister(words, position)
        twister.start(inputs[0])
        draw(twister, registers, reals, result)

    outputs = [((count,), "float64"), ((_WORDS,), "int64")]
    outputs += [((1,), "int64"), ((2,), "int64"), ((5,), "float64")]
    initial = node.builder.constant(state)
    return loop_kernel(node.builder, [initial], outputs, statements, f"random_{name}")[0]


def _int(value: int) -> Expr:
    return tirx.IntImm("int64", value)


def _real(value: float) -> Expr:
    return tirx.const(value, "float64")

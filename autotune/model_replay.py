"""The kernel calls of one run of a model, made again and again with other kernels in the place of some.

The calls keep their arguments: the model's own weights and workspace. So a kernel meets what it meets in the
model, and none but the kernels to be compared has to be compiled.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime import Executable
from ..runtime.tensors import ElementType
from .measurement import Measurement
from .run_kernels import compare_results

Array = np.ndarray[Any, Any]
Kernel = Callable[..., None]

# Functions of the virtual machine only make tensors; the trace holds those that they made.
_MACHINE = "vm.builtin."


@dataclass(frozen=True)
class TracedCall:
    """A call that a run makes.

    Attributes:
        name: of the function.
        function: what the model has under this name.
        arguments: tensors, for as long as the trace lives.
    """

    name: str
    function: Kernel
    arguments: tuple[Any, ...]


def trace(executable: Executable, inputs: Mapping[str, Any]) -> list[TracedCall]:
    """The calls of a run that do something, in order. Functions of the model are their calls of kernels."""
    calls: list[TracedCall] = []

    def note(function: Kernel, name: str, before: bool, _result: Any, *arguments: Any) -> None:
        if before and callable(function) and not name.startswith(_MACHINE):
            calls.append(TracedCall(name, function, arguments))

    executable.run_instrumented(inputs, note)
    return calls


def timed_run(calls: Sequence[TracedCall], functions: Sequence[Kernel]) -> list[float]:
    """Makes all calls, each of its own one of ``functions``; the seconds of each."""
    seconds = []
    for call, function in zip(calls, functions, strict=True):
        start = time.perf_counter_ns()
        function(*call.arguments)
        seconds.append((time.perf_counter_ns() - start) * 1e-9)
    return seconds


def check_in_place(call: TracedCall, kernels: Sequence[Kernel], tolerance: float) -> list[Measurement]:
    """Makes ``call``, then with each of ``kernels``; compares all that it was handed with what ``call`` left.

    The results of the model's own kernel remain.
    """
    arrays = [_array(argument) for argument in call.arguments]
    before = [array.copy() for array in arrays]
    call.function(*call.arguments)
    reference = [array.copy() for array in arrays]
    outcomes = []
    for kernel in kernels:
        _restore(arrays, before)
        kernel(*call.arguments)
        outcomes.append(compare_results(arrays, reference, tolerance))
    _restore(arrays, reference)
    return outcomes


def _restore(arrays: Sequence[Array], values: Sequence[Array]) -> None:
    """Writes only where something has changed: weights are shared with other processes until written to."""
    for array, value in zip(arrays, values, strict=True):
        if not np.array_equal(array.reshape(-1).view(np.uint8), value.reshape(-1).view(np.uint8)):
            array[...] = value


def _array(tensor: Any) -> Array:
    """What a compact tensor holds, in its own memory."""
    element = ElementType.named(str(tensor.dtype))
    size = math.prod(tensor.shape) * element.carrier.itemsize
    memory = (ctypes.c_uint8 * size).from_address(tensor.data_ptr())
    return np.frombuffer(memory, np.uint8).view(element.staging).reshape(tuple(tensor.shape))

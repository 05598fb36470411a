"""One instance of TVM's virtual machine, set up for one artifact. It serves one caller at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import RelaxcError, ShapeError
from .library import load_runtime
from .signature import Signature
from .structures import tensors_of
from .tensors import AlignedBuffer, ResultReader

# Called with (function, its name, whether before the call, the result, *arguments).
Instrument = Callable[..., None]

_CPU = 1
_POOLED_ALLOCATOR = 2

# The pooled allocator keeps a block of every size it ever gave out. A model with symbolic shapes would hoard
# memory for all the shapes it ever saw; after this many new ones the pool is emptied.
_SHAPES_KEPT = 8


class VirtualMachine:
    """An instance of its own for every concurrent caller; the weights are shared."""

    def __init__(self, library: Any, signature: Signature, weights: Sequence[Any], span: range) -> None:
        """Makes an instance.

        Args:
            library: the loaded module.
            signature: names and types of the inputs and outputs.
            weights: tensors, in the order in which ``main`` takes them.
            span: the addresses of the weights.
        """
        self._machine = library["vm_load_executable"]()
        self._machine["vm_initialization"](_CPU, 0, _POOLED_ALLOCATOR)
        self._main = self._machine["main"]
        self._weights = tuple(weights)
        self._weight_span = span
        self._buffers = [AlignedBuffer(part) for spec in signature.inputs for part in tensors_of(spec)]
        self._readers = [ResultReader(spec) for spec in signature.outputs]
        self._shapes_seen: set[tuple[tuple[int, ...], ...]] = set()

    def instrument(self, instrument: Instrument) -> None:
        """Has ``instrument`` called before and after every call that the program makes."""
        self._machine["set_instrument"](load_runtime().convert(instrument))

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[Any]:
        """Runs ``main`` on checked arrays; the results belong to the caller.

        Raises:
            ShapeError, RelaxcError: the program refused a shape or failed.
        """
        self._limit_pool(arrays)
        inputs = [buffer.fill(array) for buffer, array in zip(self._buffers, arrays, strict=True)]
        try:
            results = self._main(*inputs, *self._weights)
        except Exception as error:
            raise _in_one_line(error) from error
        handed_out: set[int] = set()
        return [
            self._owned(reader.read(value), handed_out)
            for reader, value in zip(self._readers, results, strict=True)
        ]

    def _limit_pool(self, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        self._shapes_seen.add(tuple(array.shape for array in arrays))
        if len(self._shapes_seen) > _SHAPES_KEPT:
            self._shapes_seen.clear()
            load_runtime().get_global_func("vm.builtin.memory_manager.clear")()

    def _owned(self, value: Any, handed_out: set[int]) -> Any:
        """A copy where a result is an input or a weight passed through, or another result once more."""
        if isinstance(value, list):
            return [self._owned(entry, handed_out) for entry in value]
        if value is None:
            return None
        address = value.__array_interface__["data"][0]
        if (
            address in handed_out
            or address in self._weight_span
            or any(address in buffer.span for buffer in self._buffers)
        ):
            return value.copy()
        handed_out.add(address)
        return value


def _in_one_line(error: Exception) -> RelaxcError:
    text = " ".join(str(error).split())
    if "match_cast" in text or "ErrorContext" in text or "Mismatched" in text:
        return ShapeError(f"the model refuses these shapes: {text}")
    return RelaxcError(f"the model failed: {text or type(error).__name__}")

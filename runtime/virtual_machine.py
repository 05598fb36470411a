"""One instance of TVM's virtual machine, set up for one artifact. It serves one caller at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from .errors import RelaxcError, ShapeError
from .library import load_runtime
from .signature import PlacedTensor, Signature
from .structures import tensors_of
from .tensors import AlignedBuffer, ResultReader, aligned_memory, end_of, tensor_at

# Called with (function, its name, whether before the call, the result, *arguments).
Instrument = Callable[..., None]

_CPU = 1
_POOLED_ALLOCATOR = 2
_BOUND_MAIN = "main on inputs"

# The pooled allocator keeps a block of every size it ever gave out. A model with symbolic shapes would hoard
# memory for all the shapes it ever saw; after this many new ones the pool is emptied.
_SHAPES_KEPT = 8


class VirtualMachine:
    """An instance and a workspace of its own for every concurrent caller; the weights are shared."""

    def __init__(self, library: Any, signature: Signature, weights: Sequence[Any], span: range) -> None:
        """Makes an instance.

        Args:
            library: the loaded module.
            signature: the types of the inputs and outputs, and where the workspace's tensors lie.
            weights: tensors, in the order in which ``main`` takes them.
            span: the addresses of the weights.

        Raises:
            RelaxcError: there is no memory for the workspace.
        """
        self._library = library
        workspace = _workspace(signature.workspace)
        self._bound = (*weights, *workspace)
        self._main = self._new_main()
        self._weight_span = span
        parts = [part for spec in signature.inputs for part in tensors_of(spec)]
        self._buffers = [AlignedBuffer(part) for part in parts]
        self._readers = [ResultReader(spec) for spec in signature.outputs]
        places = signature.results or (None,) * len(signature.outputs)
        self._held = [
            None if place is None else reader.read(workspace[place])
            for reader, place in zip(self._readers, places, strict=True)
        ]
        self._shared = frozenset(signature.shared)
        self._dynamic = any(isinstance(extent, str) for part in parts for extent in part.shape)
        self._shapes_seen: set[tuple[tuple[int, ...], ...]] = set()

    def run(self, arrays: Sequence[np.ndarray[Any, Any]], instrument: Instrument | None = None) -> list[Any]:
        """Runs ``main`` on checked arrays; the results belong to the caller.

        Args:
            arrays: the inputs.
            instrument: called before and after every call that the program makes.

        Raises:
            ShapeError, RelaxcError: the program refused a shape or failed.
        """
        if self._dynamic:
            self._limit_pool(arrays)
        inputs = [buffer.fill(array) for buffer, array in zip(self._buffers, arrays, strict=True)]
        main = self._new_main(instrument) if instrument else self._main
        try:
            results = main(*inputs)
        except Exception as error:
            raise _in_one_line(error) from error
        taken = [self._weight_span, *(buffer.span for buffer in self._buffers)]
        return [self._result(index, results, taken) for index in range(len(self._readers))]

    def _result(self, index: int, results: Any, taken: list[range]) -> Any:
        """One of the ``results`` as the caller's own."""
        if (held := self._held[index]) is not None:
            return held.copy()
        value = self._readers[index].read(results[index])
        return deepcopy(value) if index in self._shared else _owned(value, taken)

    def _new_main(self, instrument: Instrument | None = None) -> Any:
        """``main`` of a new machine, which takes the inputs only: the other arguments never change."""
        machine = self._library["vm_load_executable"]()
        machine["vm_initialization"](_CPU, 0, _POOLED_ALLOCATOR)
        if instrument:
            machine["set_instrument"](load_runtime().convert(instrument))
        machine["save_function"]("main", _BOUND_MAIN, True, *self._bound)
        return machine[_BOUND_MAIN]

    def _limit_pool(self, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        self._shapes_seen.add(tuple(array.shape for array in arrays))
        if len(self._shapes_seen) > _SHAPES_KEPT:
            self._shapes_seen.clear()
            load_runtime().get_global_func("vm.builtin.memory_manager.clear")()


def _owned(value: Any, taken: list[range]) -> Any:
    """``value``; a copy where its memory is ``taken`` by an input, a weight or another result."""
    if isinstance(value, list):
        return [_owned(entry, taken) for entry in value]
    if value is None:
        return None
    start = value.__array_interface__["data"][0]
    end = start + max(value.nbytes, 1)
    if any(start < other.stop and other.start < end for other in taken):
        return value.copy()
    taken.append(range(start, end))
    return value


def _workspace(places: Sequence[PlacedTensor]) -> list[Any]:
    """The tensors of a new workspace."""
    size = max(map(end_of, places), default=0)
    try:
        memory = aligned_memory(size)
    except (MemoryError, OverflowError, ValueError):  # the last two where a length does not fit into a word
        raise RelaxcError(
            f"this model's intermediate results need {size / 2**20:.0f} MB of memory, which cannot be had; "
            "bind smaller shapes when compiling, or run it where there is more"
        ) from None
    return [tensor_at(place, memory) for place in places]


def _in_one_line(error: Exception) -> RelaxcError:
    text = " ".join(str(error).split())
    if "match_cast" in text or "ErrorContext" in text or "Mismatched" in text:
        return ShapeError(f"the model refuses these shapes: {text}")
    return RelaxcError(f"the model failed: {text or type(error).__name__}")

"""What a run of operators moves through memory, as a cost model sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tvm import ir, relax

from .batch_axis import cut_operands, is_elementwise
from .batch_runs import Operators
from .constants import constant_value
from .operator_name import operator_name
from .tensor_types import bytes_of

_VIEWS = frozenset({"relax.reshape", "relax.squeeze"})


@dataclass(frozen=True)
class Step:
    """An operator of a run. All bytes are those of the whole batch.

    Attributes:
        traffic: bytes that its kernel reads and writes, weights apart; 0 for an operator without a kernel of
            its own, which the one in front of it computes.
        weights: bytes of its constants, of which every group of images reads all.
        border: bytes to join or to slice if the groups change before this step; None if they must not change.
        ends: bytes that it reads from outside of the run, and bytes of its result that are read there.
    """

    traffic: int
    weights: int
    border: int | None
    ends: int


@dataclass(frozen=True)
class Run:
    """Operators that treat each of ``batch`` images by itself, in the order of their ``steps``."""

    batch: int
    steps: tuple[Step, ...]


def profile(operators: Operators) -> Run:
    """What ``operators`` move."""
    return Run(operators.batch, tuple(_Profile(operators).steps()))


class _Profile:
    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.position = {binding.var: place for place, binding in enumerate(operators.bindings)}
        self.kept = set(operators.kept())
        self.sources = set(operators.sources())
        self.cut = [cut_operands(binding.value, operators.batch) for binding in operators.bindings]

    def steps(self) -> list[Step]:
        ends = self._ends()
        steps = [
            Step(0, _constant_bytes(binding.value), border, end)
            for binding, border, end in zip(self.operators.bindings, self._borders(), ends, strict=True)
        ]
        for place, traffic in self._traffic():
            steps[place] = replace(steps[place], traffic=steps[place].traffic + traffic)
        return steps

    def _traffic(self) -> Iterable[tuple[int, int]]:
        """Bytes that every operator moves, and the step whose kernel moves them."""
        kernel: dict[relax.Var, int] = {}
        for place, (binding, cut) in enumerate(zip(self.operators.bindings, self.cut, strict=True)):
            inner = [var for var in cut if var in self.position and not self._is_stored(var)]
            fused = is_elementwise(binding.value) and bool(inner)
            kernel[binding.var] = max(kernel[var] for var in inner) if fused else place
            if fused:
                yield kernel[binding.var], sum(bytes_of(var.ty) for var in cut if self._is_stored(var))
            elif not _is_view(binding.value):
                yield place, sum(bytes_of(var.ty) for var in (*cut, binding.var))

    def _is_stored(self, var: relax.Var) -> bool:
        """Whether kernels read ``var`` that do not compute it."""
        readers = self.operators.readers.get(var, ())
        return (
            var in self.kept
            or var in self.sources
            or not all(is_elementwise(reader.value) for reader in readers)
        )

    def _ends(self) -> list[int]:
        ends: list[int] = []
        seen: set[relax.Var] = set()
        for binding, cut in zip(self.operators.bindings, self.cut, strict=True):
            first_read = {var for var in cut if var in self.sources} - seen
            seen |= first_read
            kept = [binding.var] if binding.var in self.kept else []
            ends.append(sum(bytes_of(var.ty) for var in (*first_read, *kept)))
        return ends

    def _borders(self) -> list[int | None]:
        borders: list[int | None] = [0] * len(self.cut)
        for var, last in self._last_reads().items():
            tuples = isinstance(var.ty, relax.TupleType)
            # What was not stored is then stored and read besides.
            size = bytes_of(var.ty) * (1 if self._is_stored(var) else 2)
            for place in range(self.position[var] + 1, last + 1):
                border = borders[place]
                borders[place] = None if tuples or border is None else border + size
        return borders

    def _last_reads(self) -> dict[relax.Var, int]:
        """The last step that reads a variable of the run."""
        return {var: place for place, cut in enumerate(self.cut) for var in cut if var in self.position}


def _is_view(value: relax.Expr) -> bool:
    return isinstance(value, relax.TupleGetItem) or operator_name(value) in _VIEWS


def _constant_bytes(value: relax.Expr) -> int:
    if not isinstance(value, ir.Call):
        return 0
    arrays = (constant_value(arg) for arg in value.args)
    return sum(array.nbytes for array in arrays if array is not None)

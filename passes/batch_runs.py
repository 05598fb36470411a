"""Finds the parts of a graph that treat every image of a batch by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tvm import relax

from .batch_axis import batch_of, cut_operands

IMAGE_RANK = 3
"""A run begins with a tensor of at least as many axes: with fewer, axis 0 counts anything but images."""


@dataclass(frozen=True)
class Operators:
    """The bindings of a run.

    Attributes:
        batch: images.
        bindings: in order. Each may read what stands before the first one, or another one in front of it.
        readers: for every variable of the dataflow block, the bindings of the block that read it.
    """

    batch: int
    bindings: Sequence[relax.VarBinding]
    readers: Mapping[relax.Var, Sequence[relax.Binding]]

    def kept(self) -> list[relax.Var]:
        """The variables that others read."""
        mine = {binding.var for binding in self.bindings}
        return [binding.var for binding in self.bindings if self._has_reader_outside(binding.var, mine)]

    def _has_reader_outside(self, var: relax.Var, mine: set[relax.Var]) -> bool:
        if not isinstance(var, relax.DataflowVar):
            return True
        return any(reader.var not in mine for reader in self.readers.get(var, ()))

    def sources(self) -> list[relax.Var]:
        """The variables of others that are to be cut."""
        mine = {binding.var for binding in self.bindings}
        cut = [var for binding in self.bindings for var in cut_operands(binding.value, self.batch)]
        return [var for var in dict.fromkeys(cut) if var not in mine]


def find_runs(bindings: Sequence[relax.Binding]) -> Iterator[relax.Binding | Operators]:
    """All ``bindings`` of a dataflow block with the runs found, in an order in which they can be computed."""
    readers: dict[relax.Var, list[relax.Binding]] = {}
    for binding in bindings:
        for var in relax.analysis.free_vars(binding.value):
            readers.setdefault(var, []).append(binding)
    rest = list(bindings)
    if any(isinstance(binding, relax.MatchCast) for binding in bindings):
        # What depends on an extent that is found here does not say so by reading a variable.
        yield from bindings
        return
    while rest:
        search = _Search(readers)
        for binding in rest:
            search.place(binding)
        yield from search.before
        if search.run:
            yield Operators(search.batch, search.run, readers)
        rest = search.after


class _Search:
    """Parts bindings into a run, what can be computed before it, and what waits for its results."""

    def __init__(self, readers: Mapping[relax.Var, Sequence[relax.Binding]]) -> None:
        self.readers = readers
        self.batch = 0
        self.before: list[relax.Binding] = []
        self.run: list[relax.VarBinding] = []
        self.after: list[relax.Binding] = []
        self.in_run: set[relax.Var] = set()
        self.late: set[relax.Var] = set()

    def place(self, binding: relax.Binding) -> None:
        reads = set(relax.analysis.free_vars(binding.value))
        if not reads & self.late and self._belongs(binding, reads):
            self.run.append(binding)
            self.in_run.add(binding.var)
        elif reads & (self.late | self.in_run):
            self.after.append(binding)
            self.late.add(binding.var)
        else:
            self.before.append(binding)

    def _belongs(self, binding: relax.Binding, reads: set[relax.Var]) -> bool:
        if not isinstance(binding, relax.VarBinding):
            return False
        batch = self.batch or _images(binding)
        cut = cut_operands(binding.value, batch) if batch > 1 else ()
        if not cut or not self._is_taken_apart(binding):
            return False
        shared = reads - set(cut)
        foreign_tuples = [x for x in cut if isinstance(x.ty, relax.TupleType) and x not in self.in_run]
        if shared & self.in_run or foreign_tuples:
            return False
        self.batch = batch
        return True

    def _is_taken_apart(self, binding: relax.VarBinding) -> bool:
        """Whether the result is a tensor, or a tuple of which only elements are read."""
        if not isinstance(binding.var.ty, relax.TupleType):
            return True
        readers = self.readers.get(binding.var, ())
        inner = isinstance(binding.var, relax.DataflowVar)
        return inner and all(isinstance(reader.value, relax.TupleGetItem) for reader in readers)


def _images(binding: relax.VarBinding) -> int:
    """The batch of a run that begins with ``binding``; 0 if none does."""
    ty = binding.var.ty
    ty = ty.fields[0] if isinstance(ty, relax.TupleType) and ty.fields else ty
    return batch_of(ty) or 0 if getattr(ty, "ndim", 0) >= IMAGE_RANK else 0

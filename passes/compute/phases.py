"""The interleaving behind a convolution that computes a transposed one phase by phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import te, tirx

PHASES = "relaxc.phases"
"""The attribute in which a kernel that is one interleaving carries its phases, for later passes."""


@dataclass(frozen=True)
class Phases:
    """How channels become positions.

    Attributes:
        strides: (height, width): so many phases there are along each.
        begin: the first position that is kept, along each.
        channels: of one phase; those of the next one follow. The result may leave out some at the end.
    """

    strides: tuple[int, int]
    begin: tuple[int, int]
    channels: int

    def as_attribute(self) -> list[list[int]]:
        """For ``PHASES``."""
        return [list(self.strides), list(self.begin), [self.channels]]

    def source(self, h: tirx.Expr, w: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
        """Of a position of the result: the number of its phase, and the row and column in that."""
        y, x = h + self.begin[0], w + self.begin[1]
        phase = tirx.floormod(y, self.strides[0]) * self.strides[1] + tirx.floormod(x, self.strides[1])
        return phase, tirx.floordiv(y, self.strides[0]), tirx.floordiv(x, self.strides[1])


def phases_of(kernel: tirx.PrimFunc) -> Phases | None:
    """What the interleaving that ``kernel`` is carries as ``PHASES``; None for any other kernel."""
    attribute = kernel.attrs.get(PHASES) if kernel.attrs else None
    if attribute is None:
        return None
    (s, t), (top, left), (channels,) = (map(int, part) for part in attribute)
    return Phases((s, t), (top, left), channels)


def interleave_phases(phased: te.Tensor, phases: Phases, shape: Sequence[tirx.Expr]) -> te.Tensor:
    """[N, phases * channels, Q, P] to ``shape``, [N, O, H, W]; zero behind the last phase."""

    def place(n: tirx.Var, o: tirx.Var, h: tirx.Var, w: tirx.Var) -> tirx.Expr:
        phase, row, column = phases.source(h, w)
        return _inside(phased, row, column, phased(n, phase * phases.channels + o, row, column))

    return te.compute(shape, place, name="interleave_phases")


def interleave_phases_nchwc(phased: te.Tensor, phases: Phases, shape: Sequence[tirx.Expr]) -> te.Tensor:
    """The same of blocks: [N, phases * channels / b, Q, P, b] to [N, ceil(O / b), H, W, b].

    ``shape`` is [N, O, H, W], and ``channels`` is a multiple of b.
    """
    N, O, H, W = shape  # noqa: E741 - the layout's own letters
    block = int(phased.shape[4])
    blocks = phases.channels // block

    def place(n: tirx.Var, o: tirx.Var, h: tirx.Var, w: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        phase, row, column = phases.source(h, w)
        return _inside(phased, row, column, phased(n, phase * blocks + o, row, column, lane))

    return te.compute((N, -(-int(O) // block), H, W, block), place, name="interleave_phases")


def _inside(phased: te.Tensor, row: tirx.Expr, column: tirx.Expr, value: tirx.Expr) -> tirx.Expr:
    inside = tirx.all(row < phased.shape[2], column < phased.shape[3])
    return tirx.if_then_else(inside, value, tirx.const(0, phased.dtype))

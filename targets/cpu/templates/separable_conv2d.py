"""Chains of pointwise and depthwise convolutions, by bands of rows that stay in the cache of a core.

A thread takes a band of rows of the result through all convolutions of the chain: it widens the rows of the
input that the band depends on, convolves them depthwise, and narrows them. Rows at the border of two bands
are widened for both. Each convolution has the form that it has in a kernel of its own (``conv2d.py``,
``depthwise_conv2d.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute import WORKLOAD
from ....passes.compute.divisors import divisors
from ....passes.fuse_separable_conv2d import DEPTHWISE, POINTWISE
from ..machine import Machine
from .blocks import (
    inline_epilogue,
    inline_spatial_producers,
    is_workload,
    loop_extents,
    parallelise_nest,
    root_blocks,
)
from .register_kernel import accumulate, place_tile
from .register_tile import LEAST_CHAINS, RegisterTile, TileProblem, best_tile, tiles
from .spatial import compute_within, schedule_spatial

CHAINS = ((POINTWISE, DEPTHWISE, POINTWISE), (DEPTHWISE, POINTWISE))
BAND_SHARE = 0.5
"""Of the second-level cache, what the wide rows of a band may take."""
STRIP_ROWS = 4
"""Strips with as many rows spend little on the rows of the input that two strips need."""
_MOST_IMBALANCE = 1.05
"""How much longer than the mean a thread may take."""
_FEW = 3
"""So many choices of a kind are offered."""


@dataclass(frozen=True)
class SeparableWorkload:
    """A chain.

    Attributes:
        images: of the batch.
        height, width: of the result.
        in_width: of the map that is convolved depthwise.
        stride: how many rows of its input the depthwise convolution has for a row of its output.
        window_rows: of the depthwise convolution.
        narrow: channels that the first pointwise convolution reads; 0 without one.
        wide_blocks: channels of the depthwise convolution, in vectors.
        wide: channels that the last convolution reads.
        out_blocks: channels of the result, in vectors.
        lanes: of a vector.
    """

    images: int
    height: int
    width: int
    in_width: int
    stride: int
    window_rows: int
    narrow: int
    wide_blocks: int
    wide: int
    out_blocks: int
    lanes: int


@dataclass(frozen=True)
class SeparableConfig:
    """A schedule.

    Attributes:
        bands: in how many bands the rows of a map are cut.
        expand_rows, expand_vectors: the register tile of the first pointwise convolution; 0 without one.
        columns: how many columns are convolved depthwise at once.
        strips: in how many strips a channel block of a band is padded and convolved depthwise.
        project_rows, project_vectors: the register tile of the last convolution.
    """

    bands: int
    expand_rows: int
    expand_vectors: int
    columns: int
    strips: int
    project_rows: int
    project_vectors: int


class SeparableConv2dTemplate:
    """See the module's description."""

    name = "separable_conv2d"
    version = 1

    def matches(self, sch: Schedule) -> SeparableWorkload | None:
        anchors = _anchors(sch)
        if tuple(str(sch.get(anchor).annotations[WORKLOAD]) for anchor in anchors) not in CHAINS:
            return None
        depthwise, project = anchors[-2:]
        (crop,) = sch.get_consumers(depthwise)
        extents = [loop_extents(sch, block) for block in (anchors[0], depthwise, crop, project)]
        if any(None in known for known in extents):
            return None
        first, windows, wide, narrowed = ([int(extent or 0) for extent in known] for known in extents)
        padding = _padding(sch, depthwise)
        source = sch.get(padding or depthwise).reads[0].source
        return SeparableWorkload(
            images=wide[0],
            height=wide[2],
            width=wide[3],
            in_width=int(source.shape[3]),
            stride=round(int(source.shape[2]) / wide[2]),
            window_rows=windows[-2],
            narrow=first[-1] if len(anchors) > 2 else 0,
            wide_blocks=wide[1],
            wide=narrowed[-1],
            out_blocks=narrowed[1],
            lanes=wide[4],
        )

    def space(self, workload: SeparableWorkload, machine: Machine) -> Iterator[SeparableConfig]:
        for bands in _bands(workload, machine):
            choices = itertools.product(
                _expand_tiles(workload, machine),
                _columns(workload, machine),
                _strips(workload, bands),
                _large_tiles(_project_problem(workload), machine),
            )
            yield from (_config(bands, *choice) for choice in choices)

    def default(self, workload: SeparableWorkload, machine: Machine) -> SeparableConfig:
        counts, room = _bands(workload, machine), BAND_SHARE * machine.l2_bytes
        bands = next((b for b in counts if band_bytes(workload, b) <= room), counts[-1])
        strips = _strips(workload, bands)
        return _config(
            bands,
            best_tile(_expand_problem(workload), machine) if workload.narrow else _NO_TILE,
            max(_columns(workload, machine)),
            max(s for s in strips if s == 1 or workload.height // (bands * s) >= STRIP_ROWS),
            best_tile(_project_problem(workload), machine),
        )

    def apply(self, sch: Schedule, workload: SeparableWorkload, config: SeparableConfig) -> None:
        *expand, depthwise, project = _anchors(sch)
        stages = [(anchor, inline_epilogue(sch, anchor)) for anchor in (*expand, depthwise, project)]
        padding = _padding(sch, depthwise)
        kept = [sch.get(block).name_hint for block in _kept(stages, padding)]
        inline_spatial_producers(sch, keep=kept)
        first, *between, behind = _rest(sch, stages, kept)
        last = stages[-1][1]
        n, o, h, w, lane = sch.get_loops(last)
        band, h = sch.split(h, [config.bands, None])
        sch.reorder(n, band, o, h, w, lane)
        task = parallelise_nest(sch, [n, band])
        _pointwise(sch, *stages[-1], RegisterTile(config.project_rows, config.project_vectors))
        _compute_rest(sch, between[-1], task)
        _depthwise(sch, *stages[-2], padding, task, config)
        if expand:
            _compute_rest(sch, between[0], task)
            sch.compute_at(stages[0][1], task, preserve_unit_loops=True)
            _pointwise(sch, *stages[0], RegisterTile(config.expand_rows, config.expand_vectors))
        for block in (*first, *behind):
            schedule_spatial(sch, block)


_NO_TILE = RegisterTile(0, 0)


def _config(
    bands: int, expand: RegisterTile, columns: int, strips: int, project: RegisterTile
) -> SeparableConfig:
    return SeparableConfig(bands, expand.rows, expand.vectors, columns, strips, project.rows, project.vectors)


def _anchors(sch: Schedule) -> list[SBlockRV]:
    return [block for block in root_blocks(sch) if is_workload(sch, block)]


def _padding(sch: Schedule, depthwise: SBlockRV) -> SBlockRV | None:
    """The block that pads the input of ``depthwise``."""
    source = sch.get(depthwise).reads[0].source
    makers = [b for b in sch.get_producers(depthwise) if sch.get(b).writes[0].source.same_as(source)]
    return makers[0] if makers and sch.get(makers[0]).name_hint.startswith("pad") else None


def _kept(stages: list[tuple[SBlockRV, SBlockRV]], padding: SBlockRV | None) -> list[SBlockRV]:
    return [*(block for stage in stages for block in stage), *([padding] if padding is not None else [])]


def _rest(
    sch: Schedule, stages: list[tuple[SBlockRV, SBlockRV]], kept: Collection[str]
) -> list[list[SBlockRV]]:
    """The blocks not ``kept``: before the first stage, behind it, behind the next one and so on.

    Such are parts of an epilogue that cannot be one expression with the rest of it.
    """
    ends = {sch.get(last).name_hint for _, last in stages}
    found: list[list[SBlockRV]] = [[]]
    for block in root_blocks(sch):
        name = sch.get(block).name_hint
        if name in ends:
            found.append([])
        elif name not in kept:
            found[-1].append(block)
    return found


def _compute_rest(sch: Schedule, blocks: Sequence[SBlockRV], task: LoopRV) -> None:
    """Computes a band of each of ``blocks``, of which each may read those before it."""
    for block in reversed(blocks):
        compute_within(sch, block, task)


def wide_rows(workload: SeparableWorkload, bands: int) -> int:
    """How many rows the depthwise convolution reads for a band, padding included."""
    return (workload.height // bands - 1) * workload.stride + workload.window_rows


def band_bytes(workload: SeparableWorkload, bands: int) -> int:
    """What the wide rows of a band take: those that are read, if the kernel makes them, and those written."""
    read = wide_rows(workload, bands) if workload.narrow else 0
    pixels = read * workload.in_width + workload.height // bands * workload.width
    return pixels * workload.wide_blocks * workload.lanes * 4


def _bands(workload: SeparableWorkload, machine: Machine) -> list[int]:
    """Numbers of equal bands that give all threads as much to do, or as nearly as any: a few with which a
    band fits in the cache, and a few with which it does not."""
    counts = divisors(workload.height)
    least = max(_MOST_IMBALANCE, min(imbalance(workload, bands, machine) for bands in counts))
    counts = [bands for bands in counts if imbalance(workload, bands, machine) <= least]
    room = BAND_SHARE * machine.l2_bytes
    enough = sum(band_bytes(workload, bands) > room for bands in counts)
    return counts[max(0, enough - _FEW) : enough + _FEW]


def imbalance(workload: SeparableWorkload, bands: int, machine: Machine) -> float:
    """How much longer than the mean the busiest thread takes for its share of all bands."""
    tasks = workload.images * bands
    return -(-tasks // machine.cores) * machine.cores / tasks


def _strips(workload: SeparableWorkload, bands: int) -> list[int]:
    return divisors(workload.height // bands)[:_FEW]


def _columns(workload: SeparableWorkload, machine: Machine) -> list[int]:
    """Some divisors of the width: no row of the depthwise convolution overruns its end."""
    return [c for c in divisors(workload.width) if c <= machine.vector_registers // 2][-_FEW:]


def _expand_tiles(workload: SeparableWorkload, machine: Machine) -> list[RegisterTile]:
    return _large_tiles(_expand_problem(workload), machine) if workload.narrow else [_NO_TILE]


def _large_tiles(problem: TileProblem, machine: Machine) -> list[RegisterTile]:
    """Those that keep the arithmetic units busy, and the best one."""
    large = (tile for tile in tiles(problem, machine) if tile.rows * tile.vectors >= LEAST_CHAINS)
    return list(dict.fromkeys([best_tile(problem, machine), *large]))


def _expand_problem(workload: SeparableWorkload) -> TileProblem:
    return TileProblem(
        rows=workload.in_width,
        vectors=workload.wide_blocks,
        vector_bytes_reused=workload.narrow * workload.lanes * 4,
        whole_rows=True,
    )


def _project_problem(workload: SeparableWorkload) -> TileProblem:
    return TileProblem(
        rows=workload.width,
        vectors=workload.out_blocks,
        vector_bytes_reused=workload.wide * workload.lanes * 4,
        whole_rows=True,
    )


def _pointwise(sch: Schedule, anchor: SBlockRV, last: SBlockRV, tile: RegisterTile) -> None:
    """Computes a band of ``last`` by tiles, each of which is part of a row."""
    _, o, h, w, lane = sch.get_loops(last)[-5:]
    o, o_inner = sch.split(o, [None, tile.vectors])
    w, w_inner = sch.split(w, [None, tile.rows])
    sch.reorder(o, h, w, w_inner, o_inner, lane)
    _, _, _, _, lanes, *_, channels = (extent or 1 for extent in loop_extents(sch, anchor))
    place_tile(sch, anchor, last, w, staged=True)
    n, o, h, w, lane, r, s, c = sch.get_loops(anchor)[-8:]
    reduction = [r, s, *(sch.split(c, [None, lanes]) if channels % lanes == 0 else [c])]
    accumulate(sch, anchor, reduction, [n, h, w, o], lane)


def _depthwise(
    sch: Schedule,
    anchor: SBlockRV,
    last: SBlockRV,
    padding: SBlockRV | None,
    task: LoopRV,
    config: SeparableConfig,
) -> None:
    """Computes a band of ``last``, a strip of a channel block after the other."""
    sch.compute_at(last, task, preserve_unit_loops=True)
    h, w = sch.get_loops(last)[-3:-1]
    strip, h = sch.split(h, [config.strips, None])
    w, _ = sch.split(w, [None, config.columns])
    place_tile(sch, anchor, last, w, staged=False)
    if padding is not None:
        compute_within(sch, padding, strip)
    n, o, h, w, lane, r, s = sch.get_loops(anchor)[-7:]
    sch.unroll(s)
    accumulate(sch, anchor, [r, s], [n, o, h, w], lane)

"""The tuner's results, as the compiler uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..passes.compute.winograd import Tiling
from ..passes.fuse_separable_conv2d import ChainExtents
from ..passes.lower_strassen_matmul import MatmulExtents
from ..passes.lower_winograd_conv2d import Conv2dExtents
from ..targets.cpu import chain_algorithms, conv2d_algorithms, matmul_algorithms
from ..targets.cpu.kernel_identity import KernelIdentity
from .measurement import Knobs
from .records import Record, TargetKey, read_records
from .standings import Standing, standings

T = TypeVar("T")


@dataclass
class TunedKernels:
    """The champions for one target: ``Choices`` for ``schedule_kernels``.

    Attributes:
        champions: of every kernel that was tuned.
        notices: a line on everything in the records that could not be used.
    """

    champions: Mapping[KernelIdentity, Standing]
    notices: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, target: TargetKey) -> TunedKernels:
        """From a file of records. Raises RecordsError if there is none."""
        read = read_records(path)
        found = standings(read.records)
        champions = {kernel: value for (kernel, key), value in found.items() if key == target}
        return cls(champions, [*read.notices, *_other_targets(path, read.records, target, champions)])

    def knobs(self, kernel: KernelIdentity, default: Knobs) -> Knobs | None:
        """The champion, if it was compared with what the default is now."""
        champion = self.champions.get(kernel)
        if champion is None or champion.knobs is None:
            return None
        if dict(champion.default) != dict(default):
            self.refuse(kernel, "the default that it was compared with has changed")
            return None
        return champion.knobs

    def algorithm(self, extents: Conv2dExtents, default: Tiling | None) -> Tiling | None:
        """The champion among a convolution's algorithms; ``default`` if there is none."""
        choice, knobs = conv2d_algorithms.identify_choice(extents), conv2d_algorithms.algorithm_knobs(default)
        return self._chosen(choice, knobs, default, partial(conv2d_algorithms.algorithm_of, extents=extents))

    def strassen(self, extents: MatmulExtents) -> bool:
        """Whether Strassen's algorithm is champion for a product."""
        choice = matmul_algorithms.identify_choice(extents)
        return self._chosen(choice, matmul_algorithms.DIRECT, False, matmul_algorithms.by_strassen)

    def chain(self, extents: ChainExtents, default: bool) -> bool:
        """Whether one kernel is champion for a chain; ``default`` if nothing is."""
        choice, knobs = chain_algorithms.identify_choice(extents), chain_algorithms.algorithm_knobs(default)
        return self._chosen(choice, knobs, default, chain_algorithms.is_fused)

    def _chosen(
        self, choice: KernelIdentity, default_knobs: Knobs, default: T, parse: Callable[[Knobs], T]
    ) -> T:
        """The champion among an operator's algorithms; ``default`` where none is usable."""
        knobs = self.knobs(choice, default_knobs)
        if knobs is None:
            return default
        try:
            return parse(knobs)
        except ValueError as error:
            self.refuse(choice, str(error))
            return default

    def refuse(self, kernel: KernelIdentity, reason: str) -> None:
        """Makes a notice, one for all calls of a kernel."""
        notice = f"the record for {kernel} is ignored: {reason}; tune again"
        if notice not in self.notices:
            self.notices.append(notice)


def _other_targets(
    path: Path, records: tuple[Record, ...], target: TargetKey, champions: Mapping[KernelIdentity, Standing]
) -> list[str]:
    """A notice if the file holds records, but none for this target."""
    others = sorted({f"{r.target.mcpu} with {r.target.threads} thread(s)" for r in records})
    if champions or not others:
        return []
    return [
        f"{path} has no records for {target.mcpu} with {target.threads} thread(s), only for "
        f"{', '.join(others)}; TVM_NUM_THREADS sets the number of threads"
    ]

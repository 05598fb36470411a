"""The tuner's results, as the compiler uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..passes.compute.winograd import Tiling
from ..passes.fuse_separable_conv2d import ChainExtents
from ..passes.lower_strassen_matmul import MatmulExtents
from ..passes.lower_winograd_conv2d import Conv2dExtents
from ..targets.cpu import chain_algorithms, matmul_algorithms
from ..targets.cpu.conv2d_algorithms import algorithm_knobs, algorithm_of, identify_choice
from ..targets.cpu.kernel_identity import KernelIdentity
from .measurement import Knobs
from .records import Record, TargetKey, read_records
from .standings import Standing, standings


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
        choice = identify_choice(extents)
        knobs = self.knobs(choice, algorithm_knobs(default))
        if knobs is None:
            return default
        try:
            return algorithm_of(knobs, extents)
        except ValueError as error:
            self.refuse(choice, str(error))
            return default

    def strassen(self, extents: MatmulExtents) -> bool:
        """Whether Strassen's algorithm is champion for a product."""
        choice = matmul_algorithms.identify_choice(extents)
        knobs = self.knobs(choice, matmul_algorithms.DIRECT)
        try:
            return knobs is not None and matmul_algorithms.by_strassen(knobs)
        except ValueError as error:
            self.refuse(choice, str(error))
            return False

    def chain(self, extents: ChainExtents, default: bool) -> bool:
        """Whether one kernel is champion for a chain; ``default`` if nothing is."""
        choice = chain_algorithms.identify_choice(extents)
        knobs = self.knobs(choice, chain_algorithms.algorithm_knobs(default))
        if knobs is None:
            return default
        try:
            return chain_algorithms.is_fused(knobs)
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

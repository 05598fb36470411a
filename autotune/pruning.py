"""What files of records hold, kernel by kernel, and which of it is worth keeping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..targets.cpu.algorithm_choices import ALGORITHM_CHOICES
from ..targets.cpu.kernel_identity import KernelIdentity
from ..targets.cpu.templates import TEMPLATES
from .measurement import Knobs
from .records import Purpose, ReadRecords, Record, TargetKey, merged
from .standings import standing


@dataclass(frozen=True)
class KernelSummary:
    """A kernel in the records.

    Attributes:
        kernel, target: the key.
        name: its name in the model where it was met last.
        trials, failed: how many candidates were measured, and how many of those failed.
        default_seconds, seconds: of one call by the default and by the champion.
        gain: how many times faster the champion is.
        knobs: the champion's; None where the default is best.
    """

    kernel: KernelIdentity
    target: TargetKey
    name: str
    trials: int
    failed: int
    default_seconds: float
    seconds: float
    gain: float
    knobs: Knobs | None


def kernel_summaries(
    files: Iterable[ReadRecords], mcpu: str | None = None, template: str | None = None
) -> Iterator[KernelSummary]:
    """A summary of every kernel whose default ran, those with the largest gains first."""
    found = [
        summary
        for (kernel, target), records in _by_kernel(merged(files)).items()
        if mcpu in (None, target.mcpu) and template in (None, kernel.template)
        if (summary := _summary(kernel, target, records)) is not None
    ]
    yield from sorted(found, key=lambda summary: -summary.gain)


def _summary(kernel: KernelIdentity, target: TargetKey, records: Sequence[Record]) -> KernelSummary | None:
    current = standing(records)
    if current is None:
        return None
    trials = [record for record in records if record.purpose is Purpose.TRIAL]
    return KernelSummary(
        kernel=kernel,
        target=target,
        name=records[-1].name,
        trials=len(trials),
        failed=sum(not record.candidate.measurement.ok for record in trials),
        default_seconds=current.seconds * current.gain,
        seconds=current.seconds,
        gain=current.gain,
        knobs=current.knobs,
    )


def pruned(records: Sequence[Record], keep: int) -> list[Record]:
    """Of templates as they are now: the ``keep`` best trials of every kernel, and all contests."""
    versions = {template.name: template.version for template in TEMPLATES} | ALGORITHM_CHOICES
    kept: set[int] = set()
    for (kernel, _), group in _by_kernel(records).items():
        if versions.get(kernel.template) != kernel.version:
            continue
        trials = [record for record in group if record.purpose is Purpose.TRIAL]
        ran = [r for r in trials if r.candidate.measurement.ok and r.entries[0].measurement.ok]
        ran.sort(key=lambda r: r.candidate.measurement.median / r.entries[0].measurement.median)
        others = [record for record in group if record.purpose not in (Purpose.TRIAL, Purpose.MODEL_TRIAL)]
        kept |= {id(record) for record in (*ran[:keep], *others)}
    return [record for record in records if id(record) in kept]


def _by_kernel(records: Iterable[Record]) -> dict[tuple[KernelIdentity, TargetKey], list[Record]]:
    groups: defaultdict[tuple[KernelIdentity, TargetKey], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.kernel, record.target].append(record)
    return groups

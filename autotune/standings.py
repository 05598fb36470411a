"""Which schedule of a kernel is the best one known, according to the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..targets.cpu.kernel_identity import KernelIdentity
from .measurement import Knobs, Measurement
from .median_interval import lower_rank
from .records import Entry, Purpose, Record, TargetKey


@dataclass(frozen=True)
class Standing:
    """The best schedule known of a kernel.

    Attributes:
        default: the template's default, with which it was compared.
        knobs: the champion; None as long as nothing has beaten the default.
        gain: how many times faster than the default it ran, side by side; 1 without a champion.
        seconds: the time of one call.
    """

    default: Knobs
    knobs: Knobs | None
    gain: float
    seconds: float


def standings(records: Iterable[Record]) -> Mapping[tuple[KernelIdentity, TargetKey], Standing]:
    """The standing of every kernel of which ``records`` hold anything valid."""
    groups: defaultdict[tuple[KernelIdentity, TargetKey], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.kernel, record.target].append(record)
    found = {key: standing(group) for key, group in groups.items()}
    return {key: value for key, value in found.items() if value is not None}


def standing(records: Sequence[Record]) -> Standing | None:
    """The standing of one kernel after ``records`` in their order; None if its default never ran.

    Contests alone make champions: trials are many and short, so the fastest of them was lucky. A later
    contest or a run of the whole model unmakes them.
    """
    current: Standing | None = None
    for record in records:
        default = record.entries[0]
        if not default.measurement.ok:
            continue
        if current is None or current.default != default.knobs:
            current = Standing(default.knobs, None, 1.0, default.measurement.median)
        if record.purpose is Purpose.CONTEST:
            current = _after_contest(current, record)
        elif record.purpose is Purpose.MODEL:
            current = _after_model(current, record)
    return current


def _after_contest(current: Standing, contest: Record) -> Standing:
    default, *others = contest.entries
    rivals = {_frozen(entry.knobs): entry for entry in others if entry.measurement.ok}
    champion = rivals.get(_frozen(current.knobs)) if current.knobs is not None else None
    if champion is not None:
        current = _standing_of(champion, default, current)
    challenger = contest.candidate
    if challenger is champion or not beats(challenger.measurement, default.measurement):
        return current
    won = _standing_of(challenger, default, current)
    if champion is not None:
        return won if beats(challenger.measurement, champion.measurement) else current
    return won if won.gain > current.gain else current


def _after_model(current: Standing, record: Record) -> Standing:
    """A champion that is slower than the default inside the model is champion no more.

    What is timed there may be a whole run, so the time of the default stays that of the contests.
    """
    default, candidate = record.entries[0].measurement, record.candidate
    if candidate.knobs != current.knobs or candidate.measurement.median <= default.median:
        return current
    return Standing(current.default, None, 1.0, current.seconds * current.gain)


def _standing_of(entry: Entry, default: Entry, current: Standing) -> Standing:
    """The standing of ``entry`` if it still is faster than the default, else that of the default."""
    seconds = entry.measurement.median
    if not beats(entry.measurement, default.measurement):
        return Standing(current.default, None, 1.0, default.measurement.median)
    return Standing(current.default, entry.knobs, default.measurement.median / seconds, seconds)


def beats(a: Measurement, b: Measurement) -> bool:
    """Whether ``a`` is faster than ``b``, measured in turns with it, beyond chance.

    Neighbouring rounds met the same disturbances, so their ratios are compared: the lower end of the 95 %
    confidence interval of the median ratio must be above 1. Fewer than six rounds prove nothing.
    """
    ratios = sorted(second / first for first, second in zip(a.seconds, b.seconds, strict=False))
    rank = lower_rank(len(ratios))
    return rank is not None and ratios[rank] > 1.0


def _frozen(knobs: Knobs) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(knobs.items()))

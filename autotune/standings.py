"""Which schedule of a kernel is the best one known, according to the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

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
        inside: whether the champion won inside the model, so that contests outside do not count any more.
    """

    default: Knobs
    knobs: Knobs | None
    gain: float
    seconds: float
    inside: bool = False


def standings(records: Iterable[Record]) -> Mapping[tuple[KernelIdentity, TargetKey], Standing]:
    """The standing of every kernel of which ``records`` hold anything valid."""
    groups: defaultdict[tuple[KernelIdentity, TargetKey], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.kernel, record.target].append(record)
    found = {key: standing(group) for key, group in groups.items()}
    return {key: value for key, value in found.items() if value is not None}


def standing(records: Sequence[Record]) -> Standing | None:
    """The standing of one kernel after ``records`` in their order; None if its default never ran.

    Contests alone make champions, inside the model or outside: trials are many and short, so the fastest of
    them was lucky. A later contest or a run of the whole model unmakes them. What is found inside the model
    outweighs what is found outside.
    """
    current: Standing | None = None
    for record in records:
        default = record.entries[0]
        if not default.measurement.ok:
            continue
        if current is None or current.default != default.knobs:
            current = Standing(default.knobs, None, 1.0, default.measurement.median)
        if record.purpose is Purpose.CONTEST and not current.inside:
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
    """The fastest of those that beat the default inside the model is the champion.

    If none does, a champion that was slower than the default is champion no more. What is timed may be a
    whole run, so what is known of a champion that stays remains as it was.
    """
    default, *others = record.entries
    gains = [median_ratio(default.measurement, entry.measurement) for entry in others]
    champion = next((i for i, entry in enumerate(others) if entry.knobs == current.knobs), None)
    winners = [i for i, entry in enumerate(others) if beats(entry.measurement, default.measurement)]
    best = max(winners, key=gains.__getitem__, default=champion)
    if best is None:
        return current
    if best != champion:
        seconds = default.measurement.median / gains[best]
        return Standing(current.default, others[best].knobs, gains[best], seconds, inside=True)
    if gains[best] >= 1.0:
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


def median_ratio(a: Measurement, b: Measurement) -> float:
    """How many times longer ``a`` took than ``b``, measured in turns with it; 0 where one of them failed.

    Neighbouring rounds are compared, as the machine may have become slower or faster on the way.
    """
    if not (a.ok and b.ok):
        return 0.0
    return median(first / second for first, second in zip(a.seconds, b.seconds, strict=False))


def _frozen(knobs: Knobs) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(knobs.items()))

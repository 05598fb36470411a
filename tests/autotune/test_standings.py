"""Contests make champions, trials do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaxc.autotune.measurement import Measurement, Status
from relaxc.autotune.records import Entry, Purpose, Record, TargetKey
from relaxc.autotune.standings import beats, standing
from relaxc.autotune.tuned_kernels import TunedKernels
from relaxc.targets.cpu.kernel_identity import KernelIdentity

KERNEL, KEY = KernelIdentity("conv2d", 1, "0" * 16), TargetKey("znver5", 2)
NOISE = (1.0, 1.02, 0.98, 1.3, 1.01, 0.99, 1.0, 1.05, 0.97, 1.0)


def ran(seconds: float) -> Measurement:
    """Rounds that met the same disturbances as all others of these tests."""
    return Measurement(Status.OK, tuple(seconds * factor for factor in NOISE))


def contest(default: float, **others: float) -> Record:
    """A record of schedules named by their number of rows: r8=2.0 took 2 s."""
    entries = [Entry({"rows": 4}, ran(default))]
    entries += [Entry({"rows": int(name[1:])}, ran(seconds)) for name, seconds in others.items()]
    return Record(KERNEL, KEY, "conv", {}, Purpose.CONTEST, tuple(entries), "2026-01-01")


def test_the_winner_of_a_contest_is_the_champion() -> None:
    found = standing([contest(3.0, r8=2.0)])
    assert found is not None
    assert found.knobs == {"rows": 8}
    assert found.gain == pytest.approx(1.5)


def test_a_trial_makes_no_champion() -> None:
    found = standing([replace(contest(3.0, r8=2.0), purpose=Purpose.TRIAL)])
    assert found is not None
    assert found.knobs is None


def test_a_challenger_must_beat_the_champion_in_the_same_contest() -> None:
    records = [contest(3.0, r8=2.0), contest(3.0, r8=2.0, r9=2.1)]
    assert standing(records).knobs == {"rows": 8}  # type: ignore[union-attr]
    records.append(contest(3.0, r8=2.0, r10=1.9))
    assert standing(records).knobs == {"rows": 10}  # type: ignore[union-attr]


def test_a_champion_that_loses_to_the_default_is_one_no_more() -> None:
    found = standing([contest(3.0, r8=2.0), contest(3.0, r8=3.1, r9=3.2)])
    assert found is not None
    assert found.knobs is None


def test_without_a_champion_beside_it_a_challenger_needs_the_larger_gain() -> None:
    records = [contest(3.0, r8=2.0), contest(6.0, r9=5.0)]
    assert standing(records).knobs == {"rows": 8}  # type: ignore[union-attr]


def test_a_new_default_starts_anew() -> None:
    other = contest(3.0, r9=4.0)
    other = replace(other, entries=(Entry({"rows": 5}, ran(3.0)), other.entries[1]))
    found = standing([contest(3.0, r8=2.0), other])
    assert found is not None
    assert (found.knobs, found.default) == (None, {"rows": 5})


def test_a_champion_that_is_slower_inside_the_model_is_one_no_more() -> None:
    inside = replace(contest(300.0, r8=310.0), purpose=Purpose.MODEL)  # runs of the whole model
    found = standing([contest(3.0, r8=2.0), inside])
    assert found is not None
    assert found.knobs is None
    assert found.seconds == pytest.approx(ran(3.0).median)
    again = standing([contest(3.0, r8=2.0), inside, contest(3.0, r9=2.0)])
    assert again is not None
    assert again.knobs == {"rows": 9}


def test_a_champion_that_is_faster_inside_the_model_stays() -> None:
    inside = replace(contest(300.0, r8=290.0), purpose=Purpose.MODEL)  # runs of the whole model
    found = standing([contest(3.0, r8=2.0), inside])
    assert found is not None
    assert found.knobs == {"rows": 8}
    assert found.gain == pytest.approx(1.5)


def test_the_fastest_inside_the_model_is_the_champion() -> None:
    inside = replace(contest(3.0, r8=2.8, r9=2.7, r10=2.9), purpose=Purpose.MODEL)
    found = standing([contest(3.0, r8=2.0), inside])
    assert found is not None
    assert found.knobs == {"rows": 9}
    assert found.gain == pytest.approx(3.0 / 2.7)


def test_a_contest_outside_unmakes_no_champion_from_inside() -> None:
    inside = replace(contest(3.0, r8=2.8), purpose=Purpose.MODEL)
    assert standing([inside, contest(3.0, r8=3.3, r9=1.0)]).knobs == {"rows": 8}  # type: ignore[union-attr]


def test_a_trial_inside_the_model_makes_no_champion() -> None:
    found = standing([replace(contest(3.0, r8=2.0), purpose=Purpose.MODEL_TRIAL)])
    assert found is not None
    assert found.knobs is None


def test_a_champion_with_which_the_model_gives_other_results_is_one_no_more() -> None:
    inside = contest(3.0, r8=2.0)
    wrong = Entry({"rows": 8}, Measurement(Status.WRONG_RESULT, message="off"))
    inside = replace(inside, purpose=Purpose.MODEL, entries=(inside.entries[0], wrong))
    assert standing([contest(3.0, r8=2.0), inside]).knobs is None  # type: ignore[union-attr]


def test_a_run_of_the_model_does_not_say_how_long_the_default_takes() -> None:
    inside = replace(contest(300.0, r8=310.0), purpose=Purpose.MODEL)
    found = standing([contest(3.0, r8=2.0), inside])
    assert found is not None
    assert found.seconds == pytest.approx(3.0, rel=0.1)


def test_chance_beats_nobody() -> None:
    shuffled = Measurement(Status.OK, tuple(reversed(ran(1.0).seconds)))
    assert not beats(shuffled, ran(1.0))
    assert not beats(Measurement(Status.OK, (0.5,) * 5), Measurement(Status.OK, (1.0,) * 5))
    assert not beats(Measurement(Status.RUN_ERROR), ran(1.0))
    assert beats(ran(0.99), ran(1.0))


def test_the_compiler_uses_a_champion_only_against_the_default_it_has_beaten() -> None:
    found = standing([contest(3.0, r8=2.0)])
    assert found is not None
    tuned = TunedKernels({KERNEL: found})
    assert tuned.knobs(KERNEL, {"rows": 4}) == {"rows": 8}
    assert tuned.knobs(KernelIdentity("conv2d", 2, "0" * 16), {"rows": 4}) is None
    assert not tuned.notices
    assert tuned.knobs(KERNEL, {"rows": 5}) is None
    assert "default" in tuned.notices[0]

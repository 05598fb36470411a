"""Devices that come and go, without any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from relaxc.autotune.device_pool import DeviceLostError, DevicePool, DeviceUnusableError
from relaxc.autotune.measurement import BuiltKernel, Measurement, Status
from relaxc.errors import RelaxcError

GROUP = [BuiltKernel(b"", (), 0.0)]


@dataclass(eq=False)
class FakeDevice:
    """Does what ``behaviour`` says for each call, and the last of it from then on."""

    behaviour: Sequence[Callable[[], None]]
    calls: int = field(default=0)

    def run(self, kernels: Sequence[BuiltKernel]) -> list[Measurement]:
        """See ``Device``."""
        self.calls += 1
        self.behaviour[min(self.calls, len(self.behaviour)) - 1]()
        return [Measurement(Status.OK, (1.0,))] * len(kernels)


def works() -> None:
    """Nothing goes wrong."""


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.fixture(autouse=True)
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaxc.autotune.device_pool._REST_SECONDS", 0.1)
    monkeypatch.setattr("relaxc.autotune.device_pool._LOOK_SECONDS", 0.05)


@pytest.mark.parametrize("problem", [RelaxcError("no route"), DeviceLostError("silence")])
def test_a_device_that_was_held_up_is_tried_again(problem: RelaxcError) -> None:
    device = FakeDevice([failing(problem), works])
    (row,) = DevicePool(lambda: [device], "", patience=5).run([GROUP])
    assert row[0].ok
    assert device.calls == 2


def test_a_device_that_is_unfit_is_not() -> None:
    device = FakeDevice([failing(DeviceUnusableError("another processor"))])
    with pytest.raises(RelaxcError, match=r"no device for 0\.5 s \(another processor\): buy one"):
        DevicePool(lambda: [device], "buy one", patience=0.5).run([GROUP])
    assert device.calls == 1


def test_an_error_that_nobody_expected_does_not_stop_the_others() -> None:
    broken = FakeDevice([failing(KeyError("bug"))])
    good = FakeDevice([works])
    rows = DevicePool(lambda: [broken, good], "", patience=5).run([GROUP] * 20)
    assert sum(row[0].ok for row in rows) >= 19


def test_devices_may_be_unknown_for_a_while() -> None:
    answers = iter([failing(RelaxcError("no tracker")), works])
    device = FakeDevice([works])

    def find() -> list[FakeDevice]:
        next(answers, works)()
        return [device]

    (row,) = DevicePool(find, "", patience=5).run([GROUP])
    assert row[0].ok

"""Where ``relaxc tune`` measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxc.compiler.cli.device_options import RayCluster, RpcDevices, ThisMachine, devices
from relaxc.errors import RelaxcError
from relaxc.runtime.processor import default_threads


def test_by_default_it_is_this_machine() -> None:
    place = devices(None, None, None, None)
    assert place == ThisMachine()
    assert place.threads() == default_threads()


def test_a_tracker_and_a_key_name_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAXC_RPC_SECRET", "e" * 32)
    place = devices("desk:9190", "board", None, None)
    assert isinstance(place, RpcDevices)
    assert (str(place.tracker), place.key) == ("desk:9190", "board")
    assert place.limits(1) is None


def test_an_address_names_a_ray_cluster() -> None:
    assert devices(None, None, None, "auto") == RayCluster("auto")


@pytest.mark.parametrize(("tracker", "key"), [("desk:9190", None), (None, "board")])
def test_half_an_answer_is_none(tracker: str | None, key: str | None) -> None:
    with pytest.raises(RelaxcError, match="belong together"):
        devices(tracker, key, None, None)


def test_one_place_is_enough() -> None:
    with pytest.raises(RelaxcError, match="choose one"):
        devices("desk:9190", "board", None, "auto")


def test_a_secret_is_needed(tmp_path: Path) -> None:
    with pytest.raises(RelaxcError, match=r"cannot read the secret in .*nowhere"):
        devices("desk:9190", "board", tmp_path / "nowhere", None)

"""Where the secret comes from."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from relaxc.autotune.rpc.secret import read_secret, write_new_secret
from relaxc.errors import RelaxcError


def test_a_new_secret_is_random_and_private(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_new_secret(one)
    write_new_secret(other)
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert read_secret(one) != read_secret(other)


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("somebody's work")
    with pytest.raises(RelaxcError, match="File exists"):
        write_new_secret(tmp_path / "secret")
    assert (tmp_path / "secret").read_text() == "somebody's work"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    write_new_secret(tmp_path / "secret")
    (tmp_path / "secret").chmod(mode)
    with pytest.raises(RelaxcError, match="open to other users: chmod 600"):
        read_secret(tmp_path / "secret")


def test_the_environment_stands_in_for_a_file(tmp_path: Path) -> None:
    environment = {"RELAXC_RPC_SECRET": "e" * 32}
    assert read_secret(None, environment) == b"e" * 32
    write_new_secret(tmp_path / "secret")
    assert read_secret(tmp_path / "secret", environment) != b"e" * 32


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(RelaxcError, match="has 6 characters and needs 32"):
        read_secret(None, {"RELAXC_RPC_SECRET": "hunter"})


def test_without_a_secret_there_is_no_rpc() -> None:
    with pytest.raises(RelaxcError, match="needs a shared secret"):
        read_secret(None, {})

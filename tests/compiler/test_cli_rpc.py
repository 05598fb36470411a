"""``relaxc rpc``: what its commands say; what they do is in ``tests/autotune/rpc``."""

from __future__ import annotations

import os

import pytest

from relaxc.compiler.cli import rpc


def test_a_user_without_a_name_is_called_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found")

    assert rpc._user()
    monkeypatch.setattr("getpass.getuser", unknown)
    assert rpc._user() == f"user {os.getuid()}"

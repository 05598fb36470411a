"""Who knows which devices there are."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from relaxc.autotune.rpc.channel import Address, RefusedError
from relaxc.autotune.rpc.identity import Identity
from relaxc.autotune.rpc.server import Server, ServerOptions
from relaxc.autotune.rpc.tracker import Tracker, registrations

LOCAL = Address("127.0.0.1", 0)


def test_devices_are_known_from_joining_to_leaving(
    tracker: Tracker, servers: Any, identity: Identity, wait_until: Callable[..., None]
) -> None:
    board = servers.start("board")
    servers.start("phone")
    (device,) = registrations(tracker.address, identity, "board")
    assert (device.key, device.address.host) == ("board", "127.0.0.1")
    assert device.cores > 0
    assert device.processor
    assert len(registrations(tracker.address, identity)) == 2
    board.kill()
    wait_until(lambda: not registrations(tracker.address, identity, "board"))
    assert len(registrations(tracker.address, identity)) == 1


def test_strangers_learn_nothing(tracker: Tracker, stranger: Identity) -> None:
    with pytest.raises(RefusedError):
        registrations(tracker.address, stranger)


def test_a_server_without_the_secret_cannot_join(tracker: Tracker, stranger: Identity) -> None:
    server = Server(ServerOptions("board", LOCAL), stranger, lambda kernels, options: [])
    with pytest.raises(RefusedError):
        server.register_with(tracker.address)
    assert not tracker.registrations()
    server.stop()


def test_servers_return_when_the_tracker_does(
    identity: Identity, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None]
) -> None:
    server = Server(ServerOptions("board", LOCAL), identity, lambda kernels, options: [])
    with socket.socket() as reserved:  # so that nobody else gets the port; it does not listen
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(LOCAL)
        address = Address(*reserved.getsockname())
        server.register_with(address)
        assert "cannot reach a tracker" in caplog.text
        tracker = Tracker(address, identity)
    wait_until(tracker.registrations)
    server.stop()
    tracker.stop()


def test_a_server_that_listens_everywhere_is_reached_where_it_came_from(
    tracker: Tracker, identity: Identity, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    options = ServerOptions("board", LOCAL, advertise=Address("0.0.0.0", 4711))
    server = Server(options, identity, lambda kernels, options: [])
    server.register_with(tracker.address)
    wait_until(tracker.registrations)
    assert tracker.registrations()[0].address == Address("127.0.0.1", 4711)
    server.stop()

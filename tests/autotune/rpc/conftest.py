"""A secret, and kernels that are not real: here it matters how they travel, not how fast they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relaxc.autotune.rpc.channel import Address
from relaxc.autotune.rpc.identity import Identity, identity_of
from relaxc.autotune.rpc.tracker import Tracker

OBEDIENT_SERVER = Path(__file__).with_name("obedient_server.py")
SECRET = b"known to the tests and nobody else, it is hoped"


@pytest.fixture(scope="session")
def identity() -> Identity:
    """Of those who know the secret."""
    return identity_of(SECRET)


@pytest.fixture(scope="session")
def stranger() -> Identity:
    """Of somebody who knows everything but the secret."""
    return identity_of(SECRET.swapcase())


@pytest.fixture
def tracker(identity: Identity) -> Iterator[Tracker]:
    """On a free port of the loopback interface."""
    tracker = Tracker(Address("127.0.0.1", 0), identity)
    yield tracker
    tracker.stop()


class Servers:
    """Starts servers, each in a process of its own that can be killed."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, key: str = "board") -> subprocess.Popen[str]:
        """A server that has registered."""
        count = len(self._tracker.registrations())
        command = [sys.executable, str(OBEDIENT_SERVER), key, str(self._tracker.address)]
        environment = os.environ | {"RELAXC_RPC_SECRET": SECRET.decode()}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        wait_until(lambda: len(self._tracker.registrations()) > count)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def servers(tracker: Tracker) -> Iterator[Servers]:
    """Servers that do as they are told (``obedient_server.py``)."""
    servers = Servers(tracker)
    yield servers
    servers.end()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Fails if that does not become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_as_a_fixture() -> Callable[..., None]:
    """Tests cannot import from here."""
    return wait_until

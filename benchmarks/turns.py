"""Peers that take turns: each in a process of its own, only one at work at a time.

A disturbance of the machine then meets everyone, and nobody's threads get in another's way.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

# What a peer runs: called once in its own process, gives the call that is timed.
Setup = Callable[..., Callable[[], object]]

_WARM_UP = 3
# Threads spin for a while after their work: the next peer starts when these are asleep.
_PAUSE_SECONDS = 0.2


def take_turns(
    peers: Mapping[str, tuple[Setup, tuple[Any, ...]]], rounds: int = 5, calls: int = 20
) -> dict[str, list[float]]:
    """Seconds of each call, by peer.

    Args:
        peers: a function of a module's top level, and its arguments, by the peer's name.
        rounds: how many turns everyone has.
        calls: timed calls in a turn.
    """
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    for name, (setup, arguments) in peers.items():
        connections[name], theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, setup, arguments), daemon=True).start()
        theirs.close()
    times: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, connection in connections.items():
            time.sleep(_PAUSE_SECONDS)
            connection.send(calls)
            times[name] += connection.recv()
    for connection in connections.values():
        connection.send(None)
    return times


def _serve(connection: Connection, setup: Setup, arguments: tuple[Any, ...]) -> None:
    """A peer's process: times as many calls as it is asked for, until it is asked for none."""
    run = setup(*arguments)
    while (calls := connection.recv()) is not None:
        for _ in range(_WARM_UP):
            run()
        connection.send([_seconds(run) for _ in range(calls)])


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started

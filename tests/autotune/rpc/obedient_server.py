"""A server whose kernels are orders rather than machine code: what a library says is what happens.

A number: it is measured, and took so many seconds. ``sleep``: that takes a while. ``meet FOLDER``: that
takes until another server meets this one there. ``die``: the server is gone, as if its machine had lost
power. ``freeze``: it is there, but says nothing any more.

Run as ``python obedient_server.py KEY TRACKER``; prints its address.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from relaxc.autotune.measurement import BuiltKernel, Measurement, RunOptions, Status
from relaxc.autotune.rpc.channel import Address
from relaxc.autotune.rpc.identity import identity_of
from relaxc.autotune.rpc.secret import read_secret
from relaxc.autotune.rpc.server import Server, ServerOptions


def obey(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
    """In place of timing."""
    return [_carry_out(kernel.library.decode()) for kernel in kernels]


def _carry_out(order: str) -> Measurement:
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif order == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)  # the signal may reach this thread last, which must not answer until then
    elif order == "sleep":
        time.sleep(0.3)
    elif order.startswith("meet "):
        _meet_another(Path(order.removeprefix("meet ")))
    else:
        return Measurement(Status.OK, (float(order),))
    return Measurement(Status.OK, (0.0,))


def _meet_another(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)


if __name__ == "__main__":
    key, tracker = sys.argv[1:]
    server = Server(ServerOptions(key, Address("127.0.0.1", 0)), identity_of(read_secret(None)), obey)
    server.register_with(Address.parse(tracker))
    print(server.address, flush=True)
    signal.pause()

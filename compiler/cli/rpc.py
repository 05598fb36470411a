"""``relaxc rpc``: the tracker and the servers that ``relaxc tune`` measures on."""

from __future__ import annotations

import getpass
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...runtime.errors import RelaxcError
from .console import results, table

if TYPE_CHECKING:
    from ...autotune.rpc.identity import Identity

rpc = typer.Typer(
    help="Measure on other machines: a tracker, a server on each device, a secret that all of them share.\n\n"
    "Example: relaxc rpc secret key; relaxc rpc tracker --secret-file key",
    no_args_is_help=True,
)

_TRACKER_PORT = 9190
_LOOPBACK = "127.0.0.1"

SecretFile = Annotated[
    Path | None,
    typer.Option(help="The file with the shared secret; otherwise it is taken from $RELAXC_RPC_SECRET."),
]
Host = Annotated[
    str,
    typer.Option(
        help="The network address to listen at. By default only this machine can connect; with 0.0.0.0 "
        "everybody who has a route to it can, and is let in if he has the secret."
    ),
]
TrackerOption = Annotated[str, typer.Option(help="Where the tracker is.", metavar="HOST:PORT")]


@rpc.command("secret")
def make_secret(
    file: Annotated[Path, typer.Argument(help="The file to write, which only you may read.")],
) -> None:
    """Make a secret, to be copied to every machine that takes part.

    Whoever has it may run code on the devices.

    Example: relaxc rpc secret ~/.relaxc-secret
    """
    from ...autotune.rpc.secret import write_new_secret

    write_new_secret(file)
    typer.echo(f"{file}: copy it to each device, with scp for instance, and keep it from everybody else")


@rpc.command("tracker")
def run_tracker(
    host: Host = _LOOPBACK,
    port: Annotated[int, typer.Option(min=0, help="0 chooses a free one.")] = _TRACKER_PORT,
    secret_file: SecretFile = None,
) -> None:
    """Run the tracker, which knows the devices, until Ctrl-C.

    Example: relaxc rpc tracker --host 0.0.0.0 --secret-file ~/.relaxc-secret
    """
    from ...autotune.rpc.channel import Address
    from ...autotune.rpc.tracker import Tracker

    tracker = Tracker(Address(host, port), _identity(secret_file))
    _say(
        f"tracker at {tracker.address}, {_reach(host)}; whoever has the secret learns which devices there are"
    )
    _serve_until_interrupted()
    tracker.stop()


@rpc.command("server")
def run_server(
    key: Annotated[str, typer.Option(help="What kind of device this is. Devices of one key must be alike.")],
    tracker: TrackerOption,
    host: Host = _LOOPBACK,
    port: Annotated[int, typer.Option(min=0, help="By default a free one.")] = 0,
    advertise: Annotated[
        str | None,
        typer.Option(help="Where clients reach this server, if elsewhere (NAT).", metavar="HOST:PORT"),
    ] = None,
    cpus: Annotated[
        str | None, typer.Option(help="The CPUs to measure on, for example 0,2-3; by default all.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds after which a measurement is given up, whatever was asked.")
    ] = 60.0,
    secret_file: SecretFile = None,
) -> None:
    """Run a server on a device, which measures for ``relaxc tune`` elsewhere, until Ctrl-C.

    It runs the code that holders of the secret send, with the rights of the user who started it: give it one
    of its own.

    Example: relaxc rpc server --key rpi5 --tracker desk:9190 --host 0.0.0.0 --secret-file ~/.relaxc-secret
    """
    from ...autotune.isolated_run import run_isolated
    from ...autotune.rpc.channel import Address
    from ...autotune.rpc.server import Server, ServerOptions

    if cpus is not None:
        _keep_to(cpus)
    elsewhere = Address.parse(advertise) if advertise else None
    options = ServerOptions(key, Address(host, port), elsewhere, time_limit)
    tracker_address, identity = Address.parse(tracker), _identity(secret_file)
    server = Server(options, identity, run_isolated)
    _say(
        f"server of key {key!r} at {server.address}, {_reach(host)}; "
        f"whoever has the secret runs code here as {_user()}"
    )
    server.register_with(tracker_address)
    _serve_until_interrupted()
    server.stop()


@rpc.command("query")
def query(
    tracker: TrackerOption = f"{_LOOPBACK}:{_TRACKER_PORT}",
    secret_file: SecretFile = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the devices that a tracker knows.

    Example: relaxc rpc query --tracker desk:9190 --secret-file ~/.relaxc-secret
    """
    from ...autotune.rpc.channel import Address
    from ...autotune.rpc.tracker import registrations

    devices = registrations(Address.parse(tracker), _identity(secret_file))
    rows = [(device.key, str(device.address), device.processor, device.cores) for device in devices]
    if json_output:
        typer.echo(
            json.dumps(
                [dict(zip(("key", "address", "processor", "cores"), row, strict=True)) for row in rows]
            )
        )
        return
    grid = table("key", "address", "processor", "cores", numbers_from=3)
    for key, address, processor, cores in rows:
        grid.add_row(key, address, processor, str(cores))
    results().print(grid if rows else "no devices")


def _identity(secret_file: Path | None) -> Identity:
    from ...autotune.rpc.identity import identity_of
    from ...autotune.rpc.secret import read_secret

    return identity_of(read_secret(secret_file))


def _reach(host: str) -> str:
    return "for this machine only" if host in (_LOOPBACK, "localhost", "::1") else "open to the network"


def _user() -> str:
    """The name, or where the system knows none, as in some containers, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _keep_to(cpus: str) -> None:
    try:
        chosen = {cpu for part in cpus.split(",") for cpu in _range(part)}
        os.sched_setaffinity(0, chosen)
    except (ValueError, OSError) as error:
        raise RelaxcError(
            f"--cpus {cpus}: this process may use {sorted(os.sched_getaffinity(0))}; write for example 0,2-3"
        ) from error


def _range(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _serve_until_interrupted() -> None:
    """Ctrl-C and a service manager's request to end are how this is meant to end, so it is no error."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who is in a hurry need not wait for a measurement to end
    _say("stopped")

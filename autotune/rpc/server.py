"""The server: runs on a device, and measures what holders of the secret send."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from ...runtime.errors import RelaxcError
from ...runtime.processor import missing_features, processor_name, usable_cores
from ..measurement import BuiltKernel, Measurement, RunOptions
from .channel import HEARTBEAT_SECONDS, WORKING, Address, Channel, ConnectionLostError, Message
from .connection import LOG, Listener, Role, connect
from .identity import Identity
from .requests import MeasureRequest, measured, unfit
from .tracker import REGISTER, Registration

Run = Callable[[Sequence[BuiltKernel], RunOptions], list[Measurement]]

DEFAULT_TIME_LIMIT = 60.0
_RETRY_SECONDS = 2.0
# What every address of this machine means to those who listen, and nothing to those who connect.
_EVERYWHERE = ("0.0.0.0", "::")


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """How a server works.

    Attributes:
        key: the kind of device.
        listen: where to listen; port 0 chooses a free one.
        advertise: where clients reach it, if that is not where it listens.
        time_limit: the most seconds that a request may take once its turn has come.
    """

    key: str
    listen: Address
    advertise: Address | None = None
    time_limit: float = DEFAULT_TIME_LIMIT


class Server:
    """Listens for requests, and carries out one after the other.

    Args:
        options: how it works.
        identity: of the secret.
        run: times kernels in a process of its own, which may crash or hang.
    """

    def __init__(self, options: ServerOptions, identity: Identity, run: Run) -> None:
        self._options, self._identity, self._run = options, identity, run
        # One worker: two measurements at once would disturb each other.
        self._turns = ThreadPoolExecutor(max_workers=1)
        self._stopped = threading.Event()
        self._listener = Listener(options.listen, identity, Role.SERVER, self._serve)
        self._listener.start()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._listener.address

    @property
    def registration(self) -> Registration:
        """What it tells the tracker; an empty host stands for the one that the tracker sees."""
        advertised = self._options.advertise or self.address
        if advertised.host in _EVERYWHERE:
            advertised = Address("", advertised.port)
        return Registration(
            self._options.key, advertised, processor_name(), usable_cores(), secrets.token_hex(4)
        )

    def register_with(self, tracker: Address) -> None:
        """Registers, and stays registered; again and again if the tracker goes away and comes back.

        Raises:
            RelaxcError: the tracker refuses us. One that is not there yet is waited for.
        """
        try:
            channel: Channel | None = connect(tracker, self._identity, Role.TRACKER)
        except ConnectionLostError as error:
            LOG.warning("%s; trying again", error)
            channel = None
        threading.Thread(target=self._stay_registered, args=(tracker, channel), daemon=True).start()

    def stop(self) -> None:
        """Accepts no more requests, and leaves the tracker."""
        self._stopped.set()
        self._listener.stop()
        self._turns.shutdown(wait=False, cancel_futures=True)

    def _stay_registered(self, tracker: Address, channel: Channel | None) -> None:
        while not self._stopped.is_set():
            try:
                with channel or connect(tracker, self._identity, Role.TRACKER) as connected:
                    connected.send(Message(REGISTER, dataclasses.asdict(self.registration)))
                    LOG.info("registered with the tracker at %s", tracker)
                    self._keep_alive(connected)
            except RelaxcError as error:
                LOG.warning("%s; trying again", error)
                self._stopped.wait(_RETRY_SECONDS)
            channel = None

    def _keep_alive(self, channel: Channel) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            channel.receive()
            channel.send(WORKING)

    def _serve(self, channel: Channel) -> None:
        request = MeasureRequest.of(channel.receive())
        if missing := missing_features(request.cpu_features):
            channel.send(unfit(f"its processor lacks {', '.join(missing)}"))
            return
        limit = min(request.options.time_limit, self._options.time_limit)
        options = dataclasses.replace(request.options, time_limit=limit)
        LOG.info("%s: %d kernels", channel.peer, len(request.kernels))
        channel.send(measured(_await(self._turns.submit(self._run, request.kernels, options), channel)))


def _await(turn: Future[list[Measurement]], channel: Channel) -> list[Measurement]:
    """The result; meanwhile the client is told that we are alive, and gives up his turn if he is not."""
    try:
        while not wait([turn], HEARTBEAT_SECONDS).done:
            channel.send(WORKING)
    finally:
        turn.cancel()
    return turn.result()

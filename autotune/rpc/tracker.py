"""The tracker: knows which devices there are, by key. It runs nothing and hands nothing on."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

from .channel import WORKING, Address, Channel, ConnectionLostError, Message
from .connection import LOG, Listener, Role, connect
from .identity import Identity

REGISTER = "register"
DEVICES = "devices"


@dataclasses.dataclass(frozen=True)
class Registration:
    """What a server tells of itself.

    Attributes:
        key: the kind of device, under the name that its owner gave it. Devices of one key must be alike.
        address: where clients reach it.
        processor: the model of its processor.
        cores: how many threads it can run at once.
        token: differs each time that it registers: who came back is told from who is gone.
    """

    key: str
    address: Address
    processor: str = ""
    cores: int = 0
    token: str = ""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Registration:
        """Reads what ``dataclasses.asdict`` wrote. Raises ConnectionLostError."""
        try:
            host, port = fields["address"]
            address = Address(str(host), int(port))
            key, processor, token = (str(fields[name]) for name in ("key", "processor", "token"))
            return cls(key, address, processor, int(fields["cores"]), token)
        except (KeyError, TypeError, ValueError) as error:
            raise ConnectionLostError(f"a device that makes no sense: {error}") from error


class Tracker:
    """Listens for servers that register, and for clients that ask for them."""

    def __init__(self, address: Address, identity: Identity) -> None:
        self._devices: dict[Channel, Registration] = {}
        self._lock = threading.Lock()
        self._listener = Listener(address, identity, Role.TRACKER, self._serve)
        self._listener.start()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._listener.address

    def registrations(self) -> list[Registration]:
        """The devices that are registered now; one that has come back is listed once."""
        with self._lock:
            latest = {device.address: device for device in self._devices.values()}
        return sorted(latest.values(), key=lambda device: (device.key, device.address))

    def stop(self) -> None:
        """Stops listening."""
        self._listener.stop()

    def _serve(self, channel: Channel) -> None:
        try:
            while True:
                self._answer(channel, channel.receive())
        finally:
            with self._lock:
                device = self._devices.pop(channel, None)
            if device:
                LOG.info("%s left: %s", device.key, device.address)

    def _answer(self, channel: Channel, message: Message) -> None:
        if message.kind == REGISTER:
            device = _reachable(Registration.of(message.fields), channel)
            with self._lock:
                self._devices[channel] = device
            LOG.info("%s joined: %s", device.key, device.address)
            channel.send(WORKING)
        elif message.kind == DEVICES:
            devices = [dataclasses.asdict(device) for device in self.registrations()]
            channel.send(Message(DEVICES, {"devices": devices}))
        else:
            channel.send(WORKING)


def _reachable(device: Registration, channel: Channel) -> Registration:
    """A server that listens everywhere does not know its own address, but it comes from there."""
    if device.address.host:
        return device
    host = Address.parse(channel.peer).host
    return dataclasses.replace(device, address=Address(host, device.address.port))


def registrations(tracker: Address, identity: Identity, key: str | None = None) -> list[Registration]:
    """The devices that the tracker knows, of one key or of all.

    Raises:
        RelaxcError: the tracker cannot be reached, or refuses us.
    """
    with connect(tracker, identity, Role.TRACKER) as channel:
        answer = channel.request(Message(DEVICES))
    devices = [Registration.of(fields) for fields in answer.fields.get("devices", [])]
    return [device for device in devices if key is None or device.key == key]

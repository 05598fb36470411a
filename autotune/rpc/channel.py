"""A connection between two holders of the secret, on which messages travel.

A message is a JSON object and, behind it, bytes that need no interpretation. No message is ever unpickled: a
server may run what it is sent, that is its purpose, but a client must not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...runtime.errors import RelaxcError

LOOPBACK = "127.0.0.1"

# While there is work, both ends speak every ``HEARTBEAT_SECONDS``; who is silent for much longer is gone.
HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 10.0
HANDSHAKE_SECONDS = 10.0

_LENGTHS = struct.Struct("!IQ")
_MOST_HEADER_BYTES = 64 << 20
_MOST_PAYLOAD_BYTES = 1 << 30


class ConnectionLostError(RelaxcError):
    """The other end has closed the connection, or says nothing any more."""


class RefusedError(RelaxcError):
    """One end does not have the other's secret."""


class Address(NamedTuple):
    """Where to connect to."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads ``host:port``, or ``[host]:port`` for a numeric IPv6 address. Raises RelaxcError."""
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isdecimal() and int(port) < 1 << 16):
            raise RelaxcError(f"{text!r} is no address: write HOST:PORT, for example {LOOPBACK}:9190")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class Message:
    """What one end tells the other.

    Attributes:
        kind: what it is about.
        fields: what can be said in JSON.
        payload: what can not.
    """

    kind: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    payload: bytes = b""


# Says that the sender is alive, and nothing else.
WORKING = Message("working")


class Channel:
    """Sends and receives messages. One thread at a time may use it."""

    def __init__(self, connection: ssl.SSLSocket, peer: str) -> None:
        self._connection = connection
        self.peer = peer

    def send(self, message: Message) -> None:
        """Raises ConnectionLostError."""
        header = json.dumps({"kind": message.kind, **message.fields}).encode()
        with self._losses():
            self._connection.settimeout(SILENCE_SECONDS)
            self._connection.sendall(_LENGTHS.pack(len(header), len(message.payload)) + header)
            self._connection.sendall(message.payload)

    def receive(self, timeout: float = SILENCE_SECONDS) -> Message:
        """The next message, which must begin within ``timeout`` seconds. Raises ConnectionLostError."""
        with self._losses():
            self._connection.settimeout(timeout)
            header_length, payload_length = _LENGTHS.unpack(self._read(_LENGTHS.size))
            if header_length > _MOST_HEADER_BYTES or payload_length > _MOST_PAYLOAD_BYTES:
                raise ConnectionLostError(f"{self.peer} sends a message that is too large")
            fields = json.loads(self._read(header_length))
            return Message(fields.pop("kind"), fields, self._read(payload_length))

    def request(self, message: Message) -> Message:
        """Sends ``message`` and returns the answer, however long the other end says that it works on it."""
        self.send(message)
        while (answer := self.receive()).kind == WORKING.kind:
            pass
        return answer

    def close(self) -> None:
        """Ends the connection; whoever waits at the other end learns of it."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            if not (piece := self._connection.recv(min(length - len(data), 1 << 20))):
                raise ConnectionLostError(f"{self.peer} closed the connection")
            data += piece
        return bytes(data)

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise ConnectionLostError(f"{self.peer} does not answer") from error
        except (OSError, ValueError, KeyError) as error:
            raise ConnectionLostError(f"the connection to {self.peer} broke: {error}") from error

"""Making channels: ``connect`` on one side, a ``Listener`` on the other."""

from __future__ import annotations

import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from ...runtime.errors import RelaxcError
from .channel import HANDSHAKE_SECONDS, Address, Channel, ConnectionLostError, Message, RefusedError
from .identity import Identity

LOG = logging.getLogger("relaxc.rpc")

_VERSION = version("relaxc")

# Strangers cannot make more threads than this many wait for the end of a handshake.
_MOST_HANDSHAKES = 32


class Role(StrEnum):
    """What listens at an address."""

    TRACKER = "tracker"
    SERVER = "server"


def connect(address: Address, identity: Identity, role: Role) -> Channel:
    """A channel to the tracker or server at ``address``.

    Raises:
        ConnectionLostError: nobody listens there.
        RefusedError: whoever listens there does not have our secret, or says that we do not have his.
        RelaxcError: he does have it, but is of another role or version.
    """
    plain = _dial(address, role)
    try:
        channel = Channel(identity.client.wrap_socket(plain), f"the {role} at {address}")
    except ssl.SSLError as error:
        raise _refused(address, role, error) from error
    except OSError as error:
        raise ConnectionLostError(f"the {role} at {address} does not answer: {error}") from error
    try:
        _check_welcome(channel, role)
    except RelaxcError as error:
        channel.close()
        # With TLS 1.3 a client learns that he was turned away when he first reads.
        if isinstance(error.__cause__, ssl.SSLError):
            raise _refused(address, role, error.__cause__) from error
        raise
    return channel


def _dial(address: Address, role: Role) -> socket.socket:
    try:
        plain = socket.create_connection(address, timeout=HANDSHAKE_SECONDS)
    except OSError as error:
        raise ConnectionLostError(f"cannot reach a {role} at {address}: {error}") from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def _refused(address: Address, role: Role, error: Exception) -> RefusedError:
    return RefusedError(
        f"no connection to the {role} at {address}: "
        f"its secret is not ours, or it is no {role} of relaxc ({error})"
    )


def _check_welcome(channel: Channel, role: Role) -> None:
    welcome = channel.receive(HANDSHAKE_SECONDS)
    if welcome.fields.get("role") != role:
        raise RelaxcError(f"{channel.peer} is a {welcome.fields.get('role')}: give the address of a {role}")
    if welcome.fields.get("version") != _VERSION:
        raise RelaxcError(
            f"{channel.peer} runs relaxc {welcome.fields.get('version')}, this is {_VERSION}: "
            f"install the same version on both sides"
        )


class Listener(socketserver.ThreadingTCPServer):
    """Accepts holders of the secret, and serves each on a thread of its own.

    Args:
        address: where to listen; port 0 chooses a free one (``address`` then tells which).
        identity: of the secret.
        role: what those who connect expect here.
        serve: is called with each channel; the connection ends when it returns or raises RelaxcError.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, address: Address, identity: Identity, role: Role, serve: Callable[[Channel], None]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._identity, self._role, self._serve = identity, role, serve
        self._handshakes = threading.BoundedSemaphore(_MOST_HANDSHAKES)
        try:
            super().__init__((address.host, address.port), socketserver.BaseRequestHandler)
        except OSError as error:
            raise RelaxcError(
                f"cannot listen at {address}: {error.strerror}; choose another --host or --port"
            ) from error

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(*self.server_address[:2])  # type: ignore[arg-type]

    def start(self) -> None:
        """Accepts connections from now on, on a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self) -> None:
        """Accepts no more connections, and gives the port back."""
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Called by the base class on the connection's thread."""
        peer = Address(*client_address[:2])
        if not self._handshakes.acquire(blocking=False):
            LOG.warning("turned %s away: too many connections that say nothing", peer)
            return
        try:
            channel = self._welcome(request, peer)
        except (OSError, ConnectionLostError) as error:
            LOG.warning("refused %s: %s", peer, error)
            return
        finally:
            self._handshakes.release()
        with channel:
            try:
                self._serve(channel)
            except RelaxcError as error:
                LOG.debug("%s", error)

    def _welcome(self, request: socket.socket, peer: Address) -> Channel:
        request.settimeout(HANDSHAKE_SECONDS)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel = Channel(self._identity.server.wrap_socket(request, server_side=True), str(peer))
        channel.send(Message("welcome", {"role": self._role, "version": _VERSION}))
        return channel

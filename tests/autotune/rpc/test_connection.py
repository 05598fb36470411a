"""Who is let in, and who is not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from relaxc.autotune.rpc.channel import Address, Channel, ConnectionLostError, Message, RefusedError
from relaxc.autotune.rpc.connection import Listener, Role, connect
from relaxc.autotune.rpc.identity import Identity
from relaxc.errors import RelaxcError

LOCAL = Address("127.0.0.1", 0)


class Echo:
    """Answers every message with itself, and counts them."""

    def __init__(self, identity: Identity) -> None:
        self.heard = 0
        self.listener = Listener(LOCAL, identity, Role.SERVER, self._serve)
        self.listener.start()

    def _serve(self, channel: Channel) -> None:
        while True:
            message = channel.receive()
            self.heard += 1
            channel.send(message)


@pytest.fixture
def echo(identity: Identity) -> Iterator[Echo]:
    server = Echo(identity)
    yield server
    server.listener.stop()


def test_messages_arrive_unchanged(echo: Echo, identity: Identity) -> None:
    sent = Message("kind", {"number": 1.5, "rows": [[1, 2], []]}, bytes(range(256)) * 10_000)
    with connect(echo.listener.address, identity, Role.SERVER) as channel:
        assert channel.request(sent) == sent


def test_whoever_has_another_secret_is_refused(echo: Echo, stranger: Identity) -> None:
    with pytest.raises(RefusedError, match="secret is not ours"):
        connect(echo.listener.address, stranger, Role.SERVER)
    assert echo.heard == 0


def test_a_server_refuses_a_client_that_does_not_check_it(echo: Echo, stranger: Identity) -> None:
    """The client shows a certificate of the right name, but with a key of its own."""
    stranger.client.verify_mode = ssl.CERT_NONE
    try:
        with pytest.raises(RefusedError):
            connect(echo.listener.address, stranger, Role.SERVER)
    finally:
        stranger.client.verify_mode = ssl.CERT_REQUIRED
    assert echo.heard == 0


def test_a_server_refuses_a_client_that_shows_nothing(echo: Echo) -> None:
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(echo.listener.address) as plain,
        anyone.wrap_socket(plain) as connection,
        pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
    ):
        connection.recv(1)
    assert echo.heard == 0


def test_a_client_refuses_a_server_that_has_another_secret(identity: Identity, stranger: Identity) -> None:
    impostor = Echo(stranger)
    with pytest.raises(RefusedError, match="secret is not ours"):
        connect(impostor.listener.address, identity, Role.SERVER)
    impostor.listener.stop()


def test_a_recorded_conversation_cannot_be_replayed(echo: Echo, identity: Identity) -> None:
    with _Eavesdropper(echo.listener.address) as wire:
        with connect(wire.address, identity, Role.SERVER) as channel:
            channel.request(Message("run this"))
        recorded = bytes(wire.from_client)
    assert echo.heard == 1
    assert b"run this" not in recorded
    with socket.create_connection(echo.listener.address) as again:
        again.sendall(recorded)
        _hear_out(again)
    assert echo.heard == 1


def test_a_changed_byte_ends_the_conversation(echo: Echo, identity: Identity) -> None:
    with (
        _Eavesdropper(echo.listener.address) as wire,
        connect(wire.address, identity, Role.SERVER) as channel,
    ):
        wire.change = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        with pytest.raises(ConnectionLostError):
            channel.request(Message("run this"))
    assert echo.heard == 0


def test_plain_text_is_refused(echo: Echo) -> None:
    with socket.create_connection(echo.listener.address) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        _hear_out(plain)
    assert echo.heard == 0


def test_a_service_of_another_kind_is_recognised(identity: Identity) -> None:
    def greet() -> None:
        with listening.accept()[0] as connection:
            connection.sendall(b"220 mail.example ESMTP\r\n")
            _hear_out(connection)

    with socket.create_server(LOCAL) as listening:
        threading.Thread(target=greet).start()
        with pytest.raises(RefusedError, match="is no server of relaxc"):
            connect(Address(*listening.getsockname()), identity, Role.SERVER)


def test_a_server_is_no_tracker(echo: Echo, identity: Identity) -> None:
    with pytest.raises(RelaxcError, match="is a server: give the address of a tracker"):
        connect(echo.listener.address, identity, Role.TRACKER)


def test_another_version_is_named(identity: Identity) -> None:
    def welcome_as_of_old() -> None:
        connection = identity.server.wrap_socket(listening.accept()[0], server_side=True)
        Channel(connection, "client").send(Message("welcome", {"role": "server", "version": "0.0.1"}))

    with socket.create_server(LOCAL) as listening:
        threading.Thread(target=welcome_as_of_old).start()
        with pytest.raises(RelaxcError, match=r"runs relaxc 0.0.1, .* same version on both sides"):
            connect(Address(*listening.getsockname()), identity, Role.SERVER)


def test_nobody_there(identity: Identity) -> None:
    with socket.socket() as reserved:  # so that nobody else gets the port; it does not listen
        reserved.bind(LOCAL)
        with pytest.raises(ConnectionLostError, match="cannot reach a server at"):
            connect(Address(*reserved.getsockname()), identity, Role.SERVER)


def test_a_taken_port_is_reported(echo: Echo, identity: Identity) -> None:
    with pytest.raises(RelaxcError, match="choose another --host or --port"):
        Listener(echo.listener.address, identity, Role.SERVER, lambda channel: None)


@pytest.mark.parametrize(
    ("text", "address"), [("pi:9190", Address("pi", 9190)), ("[::1]:1", Address("::1", 1))]
)
def test_addresses_read_as_they_are_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["pi", "pi:", ":80", "pi:http", "pi:70000", ""])
def test_what_is_no_address_is_reported(text: str) -> None:
    with pytest.raises(RelaxcError, match="write HOST:PORT"):
        Address.parse(text)


def _hear_out(connection: socket.socket) -> None:
    """Waits until the other end hangs up."""
    connection.settimeout(60)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 16):
            pass


class _Eavesdropper:
    """Sits between a client and a server, and hears, or changes, what the client says."""

    def __init__(self, server: Address) -> None:
        self._server = server
        self._listening = socket.create_server(LOCAL)
        self.address = Address(*self._listening.getsockname())
        self.from_client = bytearray()
        self.change: Callable[[bytes], bytes] = bytes
        self._threads = [threading.Thread(target=self._sit_between, daemon=True)]

    def __enter__(self) -> _Eavesdropper:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads[0].join(60)
        self._listening.close()

    def _sit_between(self) -> None:
        client, _ = self._listening.accept()
        with client, socket.create_connection(self._server) as server:
            answers = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
            answers.start()
            while data := client.recv(1 << 16):
                self.from_client += data
                server.sendall(self.change(data))
            server.shutdown(socket.SHUT_WR)
            answers.join(60)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has hung up first

"""Requests to addresses that others name: where they do not go, and when they end."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from relevo.chassis.egress import MAX_ANSWER, Answer, Egress, Unreachable
from relevo.contracts.base import now
from relevo.kernel.addresses import BadAddress


@asynccontextmanager
async def answering(raw: bytes, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers every request with these bytes, and keeps what it was asked."""
    asked: list[bytes] = []
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(raw)
            await writer.drain()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def client(*, private: bool, seconds: float = 30) -> AsyncIterator[Egress]:
    egress = Egress(allow_private=private, allow_plain=True, seconds=seconds)
    try:
        yield egress
    finally:
        await egress.close()


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nretry-after: 7\r\n\r\nok"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
async def test_nothing_goes_into_a_private_network(host):
    async with answering(OK) as (port, asked), client(private=False) as egress:
        with pytest.raises(BadAddress, match="private network"):
            await egress.post(f"http://{host}:{port}/", {}, b"x")
        assert asked == []


async def test_a_name_is_looked_up_once_and_the_connection_goes_where_it_was_checked(monkeypatch):
    """The name stands for another address each time: what a rebinding name server does."""
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host, port, *rest, **more):
        if host != "rebind.example":
            return real(host, port, *rest, **more)
        looked_up.append(host)
        return real("127.0.0.1" if len(looked_up) == 1 else "127.0.0.2", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    async with answering(OK) as (port, asked), client(private=True) as egress:
        answer = await egress.post(f"http://rebind.example:{port}/a?b", {"x": "y"}, b"hello")
        assert answer == Answer(200, {"content-length": "2", "retry-after": "7"}, b"ok")
        assert looked_up == ["rebind.example"]
        assert asked[0].startswith(b"POST /a?b HTTP/1.1\r\n")
        assert f"host: rebind.example:{port}".encode() in asked[0].lower()
    async with answering(OK) as (port, asked), client(private=False) as egress:
        with pytest.raises(BadAddress):
            await egress.post(f"http://rebind.example:{port}/", {}, b"")
        assert asked == []


async def test_redirects_are_answers(monkeypatch):
    async with answering(OK) as (inner, asked_inside):
        moved = f"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{inner}/\r\ncontent-length: 0\r\n\r\n".encode()
        async with answering(moved) as (port, _), client(private=True) as egress:
            assert (await egress.post(f"http://127.0.0.1:{port}/", {}, b"")).status == 302
        assert asked_inside == []


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with answering(OK) as (port, asked), client(private=True) as egress:
        assert (await egress.post(f"http://127.0.0.1:{port}/", {}, b"")).status == 200
        assert len(asked) == 1


async def test_an_answer_has_an_end_in_time_and_size():
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n" + b"x" * (MAX_ANSWER + 1)
    async with answering(endless) as (port, _), client(private=True) as egress:
        assert await egress.post(f"http://127.0.0.1:{port}/", {}, b"") == Answer(
            200, {"content-length": "999999999"}, None
        )
    for unfinished in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"):
        async with answering(unfinished) as (port, _), client(private=True, seconds=0.3) as egress:
            with pytest.raises(Unreachable, match=r"within 0\.3 s"):
                await egress.post(f"http://127.0.0.1:{port}/", {}, b"")


@pytest.mark.parametrize("raw", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 200 + b"\r\n\r\n"])
async def test_what_is_no_http_is_no_answer(raw):
    async with answering(raw) as (port, _), client(private=True) as egress:
        with pytest.raises(Unreachable) as refused:
            await egress.post(f"http://127.0.0.1:{port}/secret-path", {}, b"")
        assert "secret-path" not in str(refused.value)


async def test_nobody_there_is_no_answer():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with client(private=True) as egress:
            with pytest.raises(Unreachable, match="ConnectError"):
                await egress.post(f"http://127.0.0.1:{taken.getsockname()[1]}/", {}, b"")


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "both.pem"
    pem.write_bytes(
        made.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    async with answering(OK, tls=tls) as (port, asked), client(private=True) as egress:
        with pytest.raises(Unreachable, match="ConnectError"):
            await egress.post(f"https://localhost:{port}/", {}, b"")
        assert asked == []

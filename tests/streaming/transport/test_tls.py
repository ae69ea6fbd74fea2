"""TLS with a certificate of a private authority: captions, old versions, renewal."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
import uvicorn

from clients import CaptionClient, ConnectError
from clients.events import Final
from streaming.security.keys import new_key, write_keys
from streaming.transport import tls
from tests.streaming.conftest import Serving
from tests.streaming.signals import pcm, silence, tone

OPTIONS = {"vad": "energy", "stats_interval_ms": 0}


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """A certificate authority that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    """The server's certificate, as settings."""
    files = {"ssl_certfile": tmp_path / "cert.pem", "ssl_keyfile": tmp_path / "key.pem"}
    issue(authority, files)
    return files


def issue(authority: trustme.CA, files: dict[str, Path]) -> None:
    """Write a new certificate for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1")
    files["ssl_certfile"].write_bytes(issued.cert_chain_pems[0].bytes())
    files["ssl_keyfile"].write_bytes(issued.private_key_pem.bytes())


def speaking_up_to(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that knows no later version."""
    context = ssl.create_default_context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # or its own library would refuse old versions
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = version
    return context


async def speech() -> AsyncIterator[bytes]:
    """A second of what the energy detector takes for speech."""
    yield pcm(tone(1), silence(1))


async def presented(port: int) -> bytes | None:
    """The certificate that a new connection gets."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())
    try:
        peer = writer.get_extra_info("ssl_object")
        assert peer is not None
        found: bytes | None = peer.getpeercert(binary_form=True)
        return found
    finally:
        writer.close()
        await writer.wait_closed()


async def test_captions_over_tls_with_a_key(
    serving: Serving, certificate: dict[str, Path], tmp_path: Path
) -> None:
    """The Python client checks the certificate, brings its key and gets its captions."""
    made = new_key("room")
    write_keys(tmp_path / "keys.json", [made.record])
    async with serving(**certificate, keys_file=tmp_path / "keys.json") as server:
        assert server.ws_url.startswith("wss://") and server.url.startswith("https://")
        client = CaptionClient(server.ws_url, api_key=made.secret, options=OPTIONS)
        async with client:
            events = [event async for event in client.caption(speech())]
        with pytest.raises(ConnectError, match=r"refused the connection \(401: no API key was"):
            async with CaptionClient(server.ws_url):
                pass
    assert [event.text for event in events if isinstance(event, Final)] == ["w0 w1 w2 w3 w4 w5"]


async def test_a_certificate_of_strangers_is_not_trusted(
    serving: Serving, certificate: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client does not talk to a server that it cannot check."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    async with serving(**certificate) as server:
        with pytest.raises(ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            async with CaptionClient(server.ws_url):
                pass


async def test_old_versions_are_refused(
    serving: Serving, certificate: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A client that knows nothing later than TLS 1.1 gets no connection, one with 1.2 does."""
    async with serving(**certificate) as server:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=speaking_up_to(ssl.TLSVersion.TLSv1_2)
        )
        writer.close()
        await writer.wait_closed()
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=speaking_up_to(ssl.TLSVersion.TLSv1_1)
            )
    assert "UNSUPPORTED_PROTOCOL" in caplog.text  # asyncio tells it in debug mode


def test_the_machine_cannot_allow_old_versions() -> None:
    """Whatever the defaults of the library are, TLS 1.2 is the least."""
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        lax.minimum_version = ssl.TLSVersion.TLSv1
    config = uvicorn.Config("app", log_config=None)
    assert tls.hardened(config, lambda: lax).minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_certificate_is_renewed_by_a_signal(
    serving: Serving, authority: trustme.CA, certificate: dict[str, Path]
) -> None:
    """After SIGHUP new connections get the new one; one that cannot be used leaves the old one."""
    async with serving(**certificate) as server:
        first = await presented(server.port)
        issue(authority, certificate)
        assert await presented(server.port) == first
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        second = await presented(server.port)
        assert second != first
        certificate["ssl_keyfile"].write_text("spoilt")
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        assert await presented(server.port) == second

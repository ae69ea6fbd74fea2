"""Which web pages may use the server, and what browsers are told."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import websockets

from streaming.errors import Forbidden, SettingsError
from streaming.security.origin import OriginPolicy, check_origins
from streaming.security.web import origin_policy
from streaming.settings import ServerSettings
from tests.streaming.conftest import Serving
from tests.streaming.wire import connect

MEET = "https://meet.example.org"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "captions.example.org"),
        (None, None),
        ("https://captions.example.org", "captions.example.org"),
        ("https://captions.example.org", "captions.example.org:8765"),
        ("http://Captions.Example.org:80", "captions.example.org"),
        ("http://[::1]:8765", "[::1]:8765"),
        (MEET, "captions.example.org"),
        ("HTTPS://MEET.example.org", "captions.example.org"),
        ("null", "captions.example.org"),
    ],
)
def test_pages_that_may(origin: str | None, host: str | None) -> None:
    """Programs, pages of the same host, and those in the list."""
    OriginPolicy(origins=frozenset({MEET, "null"})).check(origin, host)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://captions.example.org.evil.example",
        "https://evil.example/captions.example.org",
        "https://captions.example.org@evil.example",
        "http://meet.example.org",
        "https://meet.example.org:444",
        "null",
        "file://",
        "",
        "http://[",
    ],
)
@pytest.mark.parametrize("host", ["captions.example.org", None])
def test_pages_that_may_not(origin: str, host: str | None) -> None:
    """Other hosts, other schemes and ports of listed pages, pages without a host."""
    with pytest.raises(Forbidden, match="add the origin to allowed_origins"):
        OriginPolicy(origins=frozenset({MEET})).check(origin, host)


def test_all_pages_may() -> None:
    """With a star everybody passes."""
    OriginPolicy(origins=frozenset({"*"})).check("https://evil.example", "x")


@pytest.mark.parametrize(
    ("settings", "host", "passes"),
    [
        ({}, "127.0.0.1:8765", True),
        ({}, "localhost", True),
        ({}, "[::1]:8765", True),
        ({}, None, True),
        ({}, "evil.example:8765", False),
        ({"allowed_hosts": ["captions.example.org"]}, "captions.example.org", True),
        ({"allowed_hosts": ["captions.example.org"]}, "localhost:8765", True),
        ({"allowed_hosts": ["captions.example.org"]}, "evil.example", False),
        ({"allowed_hosts": ["*"]}, "evil.example", True),
        ({"keys_file": "keys.json"}, "captions.example.org", True),
        ({"host": "0.0.0.0"}, "captions.example.org", True),
        ({"host": "0.0.0.0", "allowed_hosts": ["a.example"]}, "b.example", False),
    ],
)
def test_names_of_the_server(settings: dict[str, Any], host: str | None, passes: bool) -> None:
    """A page that gives its own name the loopback address does not become the server's own."""
    policy = origin_policy(ServerSettings.load(**settings))
    origin = f"http://{host}" if host else None
    if passes:
        policy.check(origin, host)
        return
    with pytest.raises(Forbidden, match=r"not called .* allowed_hosts"):
        policy.check(None, host)


@pytest.mark.parametrize("origin", [MEET, "http://a.example:8080", "http://[::1]:1", "null", "*"])
def test_origins_of_the_settings(origin: str) -> None:
    """An origin is scheme, host and port."""
    check_origins([origin])


@pytest.mark.parametrize("origin", ["meet.example.org", MEET + "/", "https://A.example", "a b", ""])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    """A path or a capital letter would never match what a browser sends."""
    with pytest.raises(SettingsError, match=r"'allowed_origins': .* is not an origin; accepted"):
        ServerSettings.load(allowed_origins=[origin])


@pytest.mark.parametrize("source", ["a; script-src *", "a\nX: y", "'none'", ""])
def test_what_would_end_the_policy_is_refused(source: str) -> None:
    """A source of frames cannot smuggle another directive or header in."""
    with pytest.raises(SettingsError, match="'frame_ancestors'"):
        ServerSettings.load(frame_ancestors=[source])


async def test_a_strange_page_gets_no_socket(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """403 at the handshake, before the server says a word, and one line in the log."""
    async with serving() as server:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect(server.ws_url, origin="https://evil.example"):
                pass
        async with connect(server.ws_url, origin=f"http://127.0.0.1:{server.port}") as client:
            await client.start()
    response = refused.value.response
    assert response.status_code == 403
    assert json.loads(bytes(response.body))["error"]["code"] == "forbidden"
    (record,) = caplog.records
    assert "'https://evil.example'" in record.getMessage() and record.levelname == "WARNING"


async def test_a_page_that_keeps_asking_does_not_fill_the_log(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """After some lines about an address there is silence for a while."""
    async with serving() as server, httpx.AsyncClient() as http:
        for _ in range(40):
            await http.get(server.url + "api/info", headers={"Origin": "https://evil.example"})
    refused = [record for record in caplog.records if "refused a page" in record.getMessage()]
    assert 20 <= len(refused) <= 21


async def test_a_listed_page_may_use_all(serving: Serving) -> None:
    """It gets a socket, and for requests the headers that let its browser read the answers."""
    preflight = {"Access-Control-Request-Method": "PUT", "Origin": MEET}
    async with serving(allowed_origins=[MEET]) as server, httpx.AsyncClient() as http:
        async with connect(server.ws_url, origin=MEET) as client:
            await client.start()
        got = await http.get(server.url + "api/info", headers={"Origin": MEET})
        asked = await http.options(server.url + "api/info", headers=preflight)
    assert got.status_code == asked.status_code == 200
    assert got.headers["Access-Control-Allow-Origin"] == MEET
    assert asked.headers["Access-Control-Allow-Origin"] == MEET
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("listed", [[], [MEET]])
async def test_a_strange_page_gets_no_answers(serving: Serving, listed: list[str]) -> None:
    """Requests that need no preflight are refused too, as they would be carried out."""
    strange = {"Origin": "https://evil.example"}
    async with serving(allowed_origins=listed) as server, httpx.AsyncClient() as http:
        refused = await http.post(server.url + "api/info", headers=strange)
        own = await http.get(server.url + "api/info")
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert own.status_code == 200


async def test_a_name_that_is_not_the_servers(serving: Serving) -> None:
    """A request without an origin, as a page sends to its own host, is refused by its host."""
    async with serving() as server, httpx.AsyncClient() as http:
        refused = await http.get(server.url + "api/info", headers={"Host": "evil.example"})
    assert refused.status_code == 403 and "allowed_hosts" in refused.json()["error"]["message"]


async def test_the_page_comes_with_its_policy(serving: Serving) -> None:
    """Nothing from elsewhere runs in it, and only listed pages may show it in a frame."""
    async with serving(frame_ancestors=[MEET]) as server, httpx.AsyncClient() as http:
        page = await http.get(server.url)
        missing = await http.get(server.url + "nothing")
    assert page.status_code == 200 and missing.status_code == 404
    for response in (page, missing):
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self';" in policy
        assert policy.endswith(f"frame-ancestors 'self' {MEET}")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"

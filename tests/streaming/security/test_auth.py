"""Who a client is: where its key stands, what it opens, and how a refusal looks."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import httpx
import pytest
import websockets
from starlette.requests import Request

from streaming.dialects.base import Handshake
from streaming.errors import Forbidden, RateLimited, SettingsError, Unauthorised
from streaming.security.auth import ANONYMOUS, Authenticator, credentials, warn_if_open
from streaming.security.keys import SCOPES, KeyFile, KeyLimits, NewKey, new_key, write_keys
from streaming.security.limits import FailureLimit
from tests.streaming.conftest import Serving
from tests.streaming.wire import connect

KEY = "a2p_00112233_secret"


@pytest.fixture
def made() -> NewKey:
    """A key for captions."""
    return new_key("room 1", ["captions", "glossary:read"], KeyLimits(max_sessions=3))


@pytest.fixture
def file(tmp_path: Path, made: NewKey) -> Path:
    """A key file with it."""
    path = tmp_path / "keys.json"
    write_keys(path, [made.record])
    return path


def bearer(key: str, peer: str = "192.0.2.1") -> Handshake:
    """A handshake with a key in its header."""
    return Handshake(headers={"authorization": f"Bearer {key}"}, peer=peer)


@pytest.mark.parametrize(
    "handshake",
    [
        Handshake(headers={"authorization": f"Bearer {KEY}"}),
        Handshake(headers={"authorization": f"bearer  {KEY} "}),
        Handshake(headers={"authorization": f"Token {KEY}"}),
        Handshake(headers={"x-api-key": KEY}),
        Handshake(headers={"authorization": "Basic dTpw", "x-api-key": KEY}),
        Handshake(query=(("model", "nova-3"), ("api_key", KEY))),
        Handshake(query=(("token", KEY),)),
        Handshake(query=(("api_key", ""), ("access_token", KEY))),
        Handshake(subprotocols=("token", KEY)),
        Handshake(subprotocols=("realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.x")),
        Handshake(subprotocols=("a2p", f"a2p-key.{KEY}")),
        Handshake(headers={"x-api-key": KEY}, query=(("token", "other"),)),
    ],
)
def test_a_key_is_found_where_clients_put_it(handshake: Handshake) -> None:
    """Headers of all kinds, subprotocols, query; headers count first. No repr shows them."""
    assert credentials(handshake) == KEY
    assert KEY not in repr(handshake)


@pytest.mark.parametrize(
    "handshake",
    [
        Handshake(),
        Handshake(headers={"authorization": "Basic dTpw"}),
        Handshake(headers={"authorization": "Bearer", "x-api-key": " "}),
        Handshake(query=(("key", KEY), ("token", ""))),
        Handshake(subprotocols=("a2p", "a2p-key.")),
        Handshake(subprotocols=("token",)),
        Handshake(subprotocols=("ws", KEY)),
    ],
)
def test_what_is_no_key_is_not_taken_for_one(handshake: Handshake) -> None:
    """Other schemes, names and empty values count as no key."""
    assert credentials(handshake) is None


def test_without_keys_everybody_may_do_everything() -> None:
    """Whatever a client brings, it is anonymous; its SDK may insist on some key."""
    auth = Authenticator()
    assert not auth.required
    assert auth.identify(bearer("sk-anything")) is ANONYMOUS
    assert all(ANONYMOUS.may(scope) for scope in SCOPES)
    auth.recheck(ANONYMOUS)


def test_a_key_names_its_owner(file: Path, made: NewKey) -> None:
    """Name, scopes and limits are those of the record."""
    principal = Authenticator(KeyFile(file)).identify(bearer(made.secret))
    assert (principal.name, principal.key_id) == ("room 1", made.record.id)
    assert principal.limits == KeyLimits(max_sessions=3)
    assert principal.may("captions") and not principal.may("glossary:write")
    with pytest.raises(Forbidden, match="does not have the scope 'metrics'"):
        principal.require("metrics")
    assert made.secret.rpartition("_")[2] not in repr(principal)


def test_admin_opens_everything(file: Path) -> None:
    """A key for administration needs no other scope."""
    chief = new_key("chief", ["admin"])
    write_keys(file, [chief.record])
    principal = Authenticator(KeyFile(file)).identify(bearer(chief.secret))
    assert all(principal.may(scope) for scope in SCOPES)


@pytest.mark.parametrize("wrong", ["", "x", "a2p_00112233_" + "0" * 48, KEY])
def test_other_keys_are_refused(file: Path, wrong: str) -> None:
    """A missing, malformed or unknown key is unauthorised."""
    with pytest.raises(Unauthorised, match=r"no API key was given|the API key is not valid"):
        Authenticator(KeyFile(file)).identify(bearer(wrong))


def test_the_id_alone_opens_nothing(file: Path, made: NewKey) -> None:
    """The public part with another secret is refused, in words that do not tell it is known."""
    forged = made.secret[:-1] + ("0" if made.secret[-1] != "0" else "1")
    with pytest.raises(Unauthorised) as known:
        Authenticator(KeyFile(file)).identify(bearer(forged))
    with pytest.raises(Unauthorised) as unknown:
        Authenticator(KeyFile(file)).identify(bearer(new_key("other").secret))
    assert str(known.value) == str(unknown.value)


def test_disabled_and_expired_keys_are_refused(file: Path, made: NewKey) -> None:
    """Their owners are told which it is."""
    today = date(2030, 1, 1)
    auth = Authenticator(KeyFile(file), today=lambda: today)
    principal = auth.identify(bearer(made.secret))
    for change, told in (
        ({"disabled": True}, "is disabled"),
        ({"expires": today}, "has expired"),
    ):
        write_keys(file, [made.record.model_copy(update=change)])
        for ask in (lambda: auth.identify(bearer(made.secret)), lambda: auth.recheck(principal)):
            with pytest.raises(Unauthorised, match=told):
                ask()
    write_keys(file, [])
    with pytest.raises(Unauthorised, match="was removed"):
        auth.recheck(principal)


def test_guessing_is_slowed_and_logged_within_bounds(
    file: Path, made: NewKey, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the burst failures are rate limited and silent; a valid key always passes."""
    auth = Authenticator(KeyFile(file), FailureLimit(burst=3, clock=lambda: 0.0))
    for _ in range(3):
        with pytest.raises(Unauthorised):
            auth.identify(bearer("wrong"))
    for _ in range(5):
        with pytest.raises(RateLimited) as limited:
            auth.identify(bearer("wrong"))
    assert limited.value.retry_after_s == pytest.approx(6)
    assert auth.identify(bearer(made.secret)).name == "room 1"
    with pytest.raises(Unauthorised):
        auth.identify(bearer("wrong", peer="192.0.2.2"))
    assert len([record for record in caplog.records if "refused" in record.getMessage()]) == 4


def test_requests_are_authorised_by_scope(file: Path, made: NewKey) -> None:
    """The key of an HTTP request stands in the same places."""
    auth = Authenticator(KeyFile(file))

    def request(query: str = "", header: str = "") -> Request:
        headers = [(b"authorization", f"Bearer {header}".encode())] if header else []
        scope = {"type": "http", "path": "/", "query_string": query.encode(), "headers": headers}
        return Request({**scope, "server": ("127.0.0.1", 80), "client": ("192.0.2.1", 1)})

    assert auth.authorise(request(header=made.secret), "captions").name == "room 1"
    assert auth.authorise(request(f"api_key={made.secret}"), "glossary:read").name == "room 1"
    with pytest.raises(Forbidden):
        auth.authorise(request(header=made.secret), "glossary:write")
    with pytest.raises(Unauthorised):
        auth.authorise(request(), "captions")


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("captions.example.org", None, True),
        ("0.0.0.0", "keys.json", False),
        ("127.0.0.1", None, False),
        ("127.0.0.2", None, False),
        ("::1", None, False),
        ("localhost", None, False),
    ],
)
def test_an_open_server_says_so(
    host: str, keys: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning when others can reach a server that asks for no keys."""
    warn_if_open(host, keys)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert not warned or "a2p keys add" in caplog.text


@pytest.mark.parametrize("place", ["header", "query", "subprotocol"])
async def test_a_key_opens_a_socket(serving: Serving, file: Path, made: NewKey, place: str) -> None:
    """A client with a key gets captions, wherever the key stands."""
    options = {
        "header": {"additional_headers": {"Authorization": f"Bearer {made.secret}"}},
        "query": {},
        "subprotocol": {"subprotocols": ["a2p", f"a2p-key.{made.secret}"]},
    }[place]
    async with serving(keys_file=file) as server:
        query = f"?api_key={made.secret}" if place == "query" else ""
        async with connect(server.ws_url + query, **options) as client:
            await client.start()
            assert client.socket.subprotocol == ("a2p" if place == "subprotocol" else None)
            await client.send({"type": "stop"})
            assert await client.until_closed() == 1000


async def test_without_a_key_there_is_no_socket(
    serving: Serving, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The handshake is answered with 401 and JSON that names what is missing."""
    async with serving(keys_file=file) as server:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect(server.ws_url):
                pass
    response = refused.value.response
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    error = json.loads(bytes(response.body))["error"]
    assert error["code"] == "unauthorised" and "Authorization: Bearer KEY" in error["message"]
    assert [record.name for record in caplog.records] == ["streaming.security.auth"]


async def test_a_key_without_the_scope_is_forbidden(serving: Serving, file: Path) -> None:
    """A key for metrics opens neither a socket nor the description of the server."""
    meter = new_key("meter", ["metrics"])
    write_keys(file, [meter.record])
    headers = {"X-API-Key": meter.secret}
    async with serving(keys_file=file) as server, httpx.AsyncClient() as http:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect(server.ws_url, additional_headers=headers):
                pass
        info = await http.get(server.url + "api/info", headers=headers)
        health = await http.get(server.url + "healthz")
    assert refused.value.response.status_code == info.status_code == 403
    assert info.json()["error"]["code"] == "forbidden"
    assert health.status_code == 200


async def test_information_needs_a_key_and_failures_are_limited(
    serving: Serving, file: Path, made: NewKey
) -> None:
    """401 without a key, 429 with a time to wait after too many, 200 with one."""
    async with serving(keys_file=file) as server, httpx.AsyncClient() as http:
        url = server.url + "api/info"
        statuses = [(await http.get(url)).status_code for _ in range(25)]
        last = await http.get(url)
        good = await http.get(url, headers={"Authorization": f"Token {made.secret}"})
    assert statuses[0] == 401 and statuses[-1] == last.status_code == 429
    assert last.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(last.headers["Retry-After"]) <= 6
    assert good.status_code == 200


async def test_a_server_without_its_key_file_does_not_start(
    serving: Serving, tmp_path: Path
) -> None:
    """Rather none than one that lets everybody in."""
    with pytest.raises(SettingsError, match="cannot read keys"):
        async with serving(keys_file=tmp_path / "missing.json"):
            pass

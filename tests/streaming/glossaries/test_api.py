"""Glossaries over HTTP: a real server and a public client, uploads, conflicts, keys and limits."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

from a2p_engine import glossary
from a2p_engine.types import Term
from streaming.errors import Unauthorised
from streaming.glossaries import http as glossary_http
from streaming.glossaries.api import everyone, glossary_routes
from streaming.glossaries.service import Caller, GlossaryService
from streaming.glossaries.store import GlossaryStore, Limits
from streaming.security.auth import ANONYMOUS, Principal
from streaming.security.keys import Scope
from streaming.security.web import EXCEPTION_HANDLERS

MAX_BYTES = 200_000
DRUGS = "term,sounds_like,target,weight,enabled\napixaban,a pixa ban,阿哌沙班,2.0,\nINR,,,,false\n"
CSV = {"Content-Type": "text/csv"}
KEYS = {
    "ann": Principal(name="ann", key_id="1", scopes=frozenset({"glossary:read", "glossary:write"})),
    "bea": Principal(name="bea", key_id="2", scopes=frozenset({"glossary:read", "glossary:write"})),
    "eve": Principal(name="eve", key_id="3", scopes=frozenset({"glossary:read"})),
    "root": Principal(name="root", key_id="4", scopes=frozenset({"admin"})),
}


def by_key(request: Request, scope: Scope) -> Caller:
    """Callers by the name in a header."""
    principal = KEYS.get(request.headers.get("x-api-key", ""))
    if principal is None:
        raise Unauthorised("no API key was given")
    principal.require(scope)
    return principal


@asynccontextmanager
async def serving(service: GlossaryService, authorise: Any = everyone) -> AsyncIterator[str]:
    """A server on a free port; its address."""
    app = Starlette(
        routes=glossary_routes(service, max_upload_bytes=MAX_BYTES, authorise=authorise),
        exception_handlers=EXCEPTION_HANDLERS,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, log_level="warning", lifespan="off")
    )
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/api/glossaries"
    finally:
        server.should_exit = True
        await task
        listening.close()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[GlossaryService]:
    """A service with a file beside its store."""
    store = GlossaryStore(tmp_path / "glossaries.sqlite", Limits(terms=5_000))
    yield GlossaryService(store, {"ward": (Term(text="zinc"), Term(text="aspirin"))})
    store.close()


@pytest.fixture
async def client(service: GlossaryService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server without keys."""
    async with serving(service) as url, httpx.AsyncClient(base_url=url) as made:
        yield made


async def listed(client: httpx.AsyncClient, key: str = "") -> list[dict[str, Any]]:
    """All that a caller may use."""
    address = str(client.base_url).rstrip("/")
    response = await client.get(address, headers={"X-API-Key": key})
    response.raise_for_status()
    glossaries: list[dict[str, Any]] = response.json()["glossaries"]
    return glossaries


def failure(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["code"]


async def test_a_glossary_from_upload_to_deletion(client: httpx.AsyncClient) -> None:
    """Each step answers with what it did and with the version's tag."""
    made = await client.put("/drugs", content=DRUGS, headers=CSV)
    assert made.status_code == 201
    assert made.json() == {
        "name": "drugs",
        "version": 1,
        "terms": 2,
        "added": 2,
        "removed": 0,
        "replaced": 0,
        "rejected": [],
        "rejected_count": 0,
        "notes": [],
    }
    read = await client.get("/drugs")
    assert read.json()["entries"] == [
        {"term": "INR", "enabled": False},
        {"term": "apixaban", "sounds_like": ["a pixa ban"], "target": "阿哌沙班", "weight": 2.0},
    ]
    assert read.headers["etag"] == made.headers["etag"]
    change = {"add": ["Eliquis", "!!!"], "remove": ["INR", "zinc"]}
    edited = await client.patch("/drugs", json=change)
    assert edited.status_code == 200
    assert [edited.json()[key] for key in ("version", "terms", "added", "removed")] == [2, 2, 1, 1]
    assert edited.json()["rejected"] == [
        {"entry": "!!!", "reason": "has no letter or digit"},
        {"entry": "zinc", "reason": "not in the glossary"},
    ]
    found = await listed(client)
    assert [(each["name"], each["version"], each["terms"]) for each in found] == [
        ("drugs", 2, 2),
        ("ward", None, 2),
    ]
    assert (await client.delete("/drugs")).status_code == 204
    assert failure(await client.get("/drugs")) == (404, "unknown_glossary")
    assert failure(await client.delete("/drugs")) == (404, "unknown_glossary")


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("txt", "# a comment\napixaban\n"),
        ("tsv", "term\ttarget\napixaban\tX\n"),
        ("json", '["apixaban"]'),
        ("json", '{"en": ["apixaban"], "zh": ["X"]}'),
        (
            "tbx",
            '<tbx><conceptEntry><langSec xml:lang="en"><termSec><term>apixaban</term></termSec>'
            "</langSec></conceptEntry></tbx>",
        ),
    ],
)
async def test_every_form_is_taken_by_parameter_and_by_type(
    client: httpx.AsyncClient, form: str, content: str
) -> None:
    """The parameter wins over the type, since many tools send a type of their own."""
    types = {"txt": "text/plain", "tsv": "text/tab-separated-values", "tbx": "application/x-tbx"}
    odd = {"Content-Type": "application/x-www-form-urlencoded"}
    asked = await client.put("/one", params={"form": form}, content=content, headers=odd)
    typed = {"Content-Type": types.get(form, "application/json; charset=utf-8")}
    said = await client.put("/two", content=content, headers=typed)
    assert (asked.status_code, said.status_code) == (201, 201)
    for name in ("/one", "/two"):
        assert [e["term"] for e in (await client.get(name)).json()["entries"]] == ["apixaban"]


async def test_languages_of_an_upload_are_chosen(client: httpx.AsyncClient) -> None:
    """Spoken language and translation are parameters."""
    bank = json.dumps({"en": ["dog"], "de": ["Hund"], "fr": ["chien"]})
    chosen = {"form": "json", "language": "de", "target": "fr"}
    await client.put("/animals", params=chosen, content=bank)
    assert (await client.get("/animals")).json()["entries"] == [{"term": "Hund", "target": "chien"}]
    wrong = await client.put("/animals", params=chosen | {"language": "it"}, content=bank)
    assert failure(wrong) == (422, "bad_glossary")


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "txt"])
async def test_exports_are_imports(client: httpx.AsyncClient, form: str) -> None:
    """What is downloaded, in pieces, is what was uploaded."""
    terms = [f"term {number:04}" for number in range(2500)] + ["#MeToo"]
    await client.put("/big", params={"form": "json"}, content=json.dumps(terms))
    export = await client.get("/big", params={"form": form})
    assert export.headers["content-disposition"] == f"attachment; filename*=UTF-8''big.{form}"
    parsed = glossary.parse(export.content, form)
    assert sorted(term.text for term in parsed.terms) == sorted(terms)
    file = await client.get("/ward", params={"form": form})
    assert {term.text for term in glossary.parse(file.content, form).terms} == {"zinc", "aspirin"}


async def test_pages_follow_one_another(client: httpx.AsyncClient) -> None:
    """``next`` leads from page to page, in stored glossaries and files alike."""
    terms = [f"term {number:03}" for number in range(250)]
    await client.put("/big", params={"form": "json"}, content=json.dumps(terms))
    found: list[str] = []
    following: str | None = ""
    while following is not None:
        page = (await client.get("/big", params={"after": following, "limit": 100})).json()
        found += [entry["term"] for entry in page["entries"]]
        following = page["next"]
    assert found == terms
    first = (await client.get("/ward", params={"limit": 1})).json()
    assert (first["entries"], first["next"]) == ([{"term": "aspirin"}], "aspirin")
    rest = (await client.get("/ward", params={"after": "aspirin"})).json()
    assert (rest["entries"], rest["next"]) == ([{"term": "zinc"}], None)


async def test_versions_can_be_listed_read_and_brought_back(client: httpx.AsyncClient) -> None:
    """The history says who changed how much; an old version is exported like the current one."""
    await client.put("/drugs", content="apixaban\nzinc\n", params={"form": "txt"})
    await client.patch("/drugs", json={"remove": ["zinc"]})
    old = await client.get("/drugs", params={"version": 1, "form": "txt"})
    assert old.text == "apixaban\nzinc\n"
    assert (await client.get("/drugs", params={"version": 1})).json()["terms"] == 2
    restored = await client.post("/drugs/restore", json={"version": 1, "if_version": 2})
    assert [restored.json()[key] for key in ("version", "added")] == [3, 1]
    versions = (await client.get("/drugs/history")).json()["versions"]
    assert [
        (v["version"], v["action"], v["author"], v["added"], v["removed"]) for v in versions
    ] == [
        (3, "restore", "anonymous", 1, 0),
        (2, "edit", "anonymous", 0, 1),
        (1, "import", "anonymous", 2, 0),
    ]
    assert versions[0]["made"].endswith("+00:00")
    for params in ({"version": 9}, {"version": 9, "form": "txt"}):
        assert failure(await client.get("/drugs", params=params)) == (404, "unknown_glossary")
    assert failure(await client.post("/drugs/restore", json={"version": 9}))[0] == 404
    assert failure(await client.post("/drugs/restore", json={})) == (400, "bad_request")


async def test_two_editors_do_not_undo_each_other(client: httpx.AsyncClient) -> None:
    """The second is told which version is current: 409 for a number, 412 for a tag."""
    tag = (await client.put("/drugs", content=DRUGS, headers=CSV)).headers["etag"]
    first = await client.patch("/drugs", json={"add": ["one"]}, headers={"If-Match": tag})
    assert first.status_code == 200
    second = await client.patch("/drugs", json={"add": ["two"]}, headers={"If-Match": tag})
    assert failure(second) == (412, "version_conflict")
    assert second.json()["error"]["version"] == 2
    for response in (
        await client.patch("/drugs", json={"add": ["two"], "if_version": 1}),
        await client.put("/drugs", content=DRUGS, headers=CSV, params={"if_version": 1}),
        await client.delete("/drugs", params={"if_version": 1}),
    ):
        assert failure(response) == (409, "version_conflict")
        assert response.json()["error"]["version"] == 2
    new = first.headers["etag"]
    assert (await client.delete("/drugs", headers={"If-Match": new})).status_code == 204


async def test_a_tag_does_not_outlive_its_glossary(client: httpx.AsyncClient) -> None:
    """A new glossary of the same name and version is another one."""
    tag = (await client.put("/drugs", content=DRUGS, headers=CSV)).headers["etag"]
    await client.delete("/drugs")
    await client.put("/drugs", content=DRUGS, headers=CSV)
    stale = await client.patch("/drugs", json={"add": ["x"]}, headers={"If-Match": tag})
    assert failure(stale) == (412, "version_conflict")


async def test_creating_and_reading_can_be_conditional(client: httpx.AsyncClient) -> None:
    """``If-None-Match`` keeps from overwriting, and from reading again what is known."""
    new = {"If-None-Match": "*"} | CSV
    assert (await client.put("/drugs", content=DRUGS, headers=new)).status_code == 201
    assert failure(await client.put("/drugs", content=DRUGS, headers=new))[0] == 412
    tag = (await client.get("/drugs")).headers["etag"]
    again = await client.get("/drugs", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    missing = await client.put("/more", content=DRUGS, headers={"If-Match": "*"} | CSV)
    assert failure(missing) == (412, "version_conflict")
    odd = await client.patch("/drugs", json={"add": []}, headers={"If-Match": "W/x"})
    assert failure(odd) == (400, "bad_request")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must be a JSON object"),
        (b"\xff", "must be a JSON object"),
        (b'{"add": "x"}', "add is"),
        (b'{"add": [1]}', "add is"),
        (b'{"remove": [{}]}', "remove is"),
        (b'{"if_version": "2"}', "if_version is"),
        (b'{"if_version": true}', "if_version is"),
        (b'{"ad": []}', "unknown key"),
    ],
)
async def test_edits_that_are_not_understood(
    client: httpx.AsyncClient, body: bytes, message: str
) -> None:
    """The answer names the key and what is accepted."""
    await client.put("/drugs", content=DRUGS, headers=CSV)
    typed = {"Content-Type": "application/json"}
    response = await client.patch("/drugs", content=body, headers=typed)
    assert failure(response) == (400, "bad_request")
    assert message in response.json()["error"]["message"]
    untyped = await client.patch("/drugs", content=body)
    assert failure(untyped) == (415, "unknown_form")


async def test_uploads_that_cannot_be_used(client: httpx.AsyncClient) -> None:
    """Each is refused with the reason, and makes no glossary."""
    cases: list[tuple[dict[str, Any], tuple[int, str], str]] = [
        ({"content": "x"}, (415, "unknown_form"), "content type none"),
        ({"content": "x", "params": {"form": "xls"}}, (415, "unknown_form"), "form=xls"),
        ({"content": "{", "params": {"form": "json"}}, (422, "bad_glossary"), "not JSON"),
        ({"content": "!!!\n", "params": {"form": "txt"}}, (422, "bad_glossary"), "nothing in it"),
        ({"content": "a,b\n", "params": {"form": "csv"}}, (422, "bad_glossary"), "name the col"),
        ({"content": "x", "params": {"from": "txt"}}, (400, "bad_request"), "unknown parameter"),
        (
            {"content": "x", "params": {"form": "txt", "shared": "perhaps"}},
            (400, "bad_request"),
            "accepted are true and false",
        ),
        (
            {"content": "x", "params": {"form": "txt"}, "headers": {"Content-Encoding": "gzip"}},
            (415, "unknown_form"),
            "compressed",
        ),
        (
            {"content": "\n".join(map(str, range(6000))), "params": {"form": "txt"}},
            (422, "too_much"),
            "at most 5000",
        ),
    ]
    for request, expected, message in cases:
        response = await client.put("/drugs", **request)
        assert failure(response) == expected
        assert message in response.json()["error"]["message"]
    named = await client.put("/-x", content="x", params={"form": "txt"})
    assert failure(named) == (422, "bad_glossary")
    assert failure(await client.get("/drugs")) == (404, "unknown_glossary")


async def test_malicious_xml_is_refused(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Neither files of the server nor entities that explode are read."""
    (tmp_path / "secret").write_text("open sesame")
    declared = f'<!DOCTYPE tbx [<!ENTITY x SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
    body = f'{declared}<tbx><conceptEntry><langSec xml:lang="en"><termSec><term>&x;</term>'
    response = await client.put("/x", content=body, headers={"Content-Type": "application/xml"})
    assert failure(response) == (422, "bad_glossary")
    assert "sesame" not in response.text


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_long_is_refused(
    client: httpx.AsyncClient, announced: bool
) -> None:
    """Before it is read if it says so, else as soon as it is too long."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"term\n" * 1000

    content = b"term\n" * 100_000 if announced else pieces()
    response = await client.put("/drugs", content=content, params={"form": "txt"})
    assert failure(response) == (413, "body_too_large")
    assert str(MAX_BYTES) in response.json()["error"]["message"]


async def test_uploads_share_a_bounded_memory(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it they are told to come back; when others are done there is room again."""
    going = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"apixaban\n"
        await going.wait()

    waiting = [
        asyncio.create_task(client.put(f"/d{n}", content=slowly(), params={"form": "txt"}))
        for n in range(4)
    ]
    await asyncio.sleep(0.3)
    refused = await client.put("/more", content="x", params={"form": "txt"})
    assert failure(refused) == (503, "too_many_uploads")
    assert refused.headers["retry-after"] == "5"
    assert (await client.get("/ward")).status_code == 200
    going.set()
    assert [(await each).status_code for each in waiting] == [201] * 4
    assert (await client.put("/more", content="x", params={"form": "txt"})).status_code == 201


async def test_a_body_that_does_not_end_is_given_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that stops in the middle does not hold its place for ever."""
    monkeypatch.setattr(glossary_http, "BODY_TIMEOUT_S", 0.2)
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT {url.path}drugs?form=txt HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    writer.write(f"{head}apixaban\n".encode())
    response = await asyncio.wait_for(reader.readuntil(b"}}"), 10)
    assert response.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_too_slow"' in response
    writer.close()
    await writer.wait_closed()
    assert (await client.get("/drugs")).status_code == 404


async def test_a_client_that_leaves_in_the_middle_stores_nothing(
    client: httpx.AsyncClient,
) -> None:
    """Half a glossary is none."""
    url = client.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT {url.path}drugs?form=txt HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    writer.write(f"{head}apixaban\n".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.1)
    assert (await client.get("/drugs")).status_code == 404
    done = await client.put("/drugs", content="x" * 100, params={"form": "txt"})
    assert done.status_code == 201


async def test_files_can_be_read_and_not_changed(client: httpx.AsyncClient) -> None:
    """They are what the server was started with."""
    for response in (
        await client.put("/ward", content="x", params={"form": "txt"}),
        await client.patch("/ward", json={"add": ["x"]}),
        await client.delete("/ward"),
        await client.get("/ward/history"),
    ):
        assert failure(response) == (403, "read_only_glossary")


async def test_keys_are_isolated(service: GlossaryService) -> None:
    """A key sees its own and what belongs to everybody, and may do what its scopes say."""
    service.replace(ANONYMOUS, "common", [Term(text="zinc")])
    async with serving(service, by_key) as url, httpx.AsyncClient(base_url=url) as client:

        async def call(key: str, method: str, path: str, **more: Any) -> httpx.Response:
            return await client.request(method, path, headers={"X-API-Key": key}, **more)

        text = {"form": "txt"}
        assert (await call("ann", "PUT", "/drugs", content="a\n", params=text)).status_code == 201
        assert [each["name"] for each in await listed(client, "bea")] == ["common", "ward"]
        for path in ("/drugs", "/drugs/history"):
            assert failure(await call("bea", "GET", path)) == (404, "unknown_glossary")
        for method in ("PATCH", "DELETE"):
            response = await call("bea", method, "/drugs", json={"add": ["x"]})
            assert failure(response) == (404, "unknown_glossary")
        refused = await call("bea", "PATCH", "/common", json={"add": ["x"]})
        assert failure(refused) == (403, "read_only_glossary")
        own = await call("bea", "PUT", "/common", content="b\n", params=text)
        assert own.status_code == 201
        shadow = (await call("bea", "GET", "/common")).json()
        assert (shadow["shared"], shadow["entries"]) == (False, [{"term": "b"}])
        assert (await call("ann", "GET", "/common")).json()["entries"] == [{"term": "zinc"}]
        history = (await call("ann", "GET", "/common/history")).json()["versions"]
        assert [version["author"] for version in history] == [None]
        assert failure(await call("eve", "DELETE", "/common")) == (403, "forbidden")
        assert failure(await call("nobody", "GET", "/common")) == (401, "unauthorised")
        shared = {"shared": "true"} | text
        for key, status in (("ann", 403), ("root", 200)):
            response = await call(key, "PUT", "/common", content="c\n", params=shared)
            assert response.status_code == status
        assert (await call("ann", "GET", "/common")).json()["entries"] == [{"term": "c"}]


async def test_a_full_store_is_told(tmp_path: Path) -> None:
    """507, and what was there can be read and deleted."""
    store = GlossaryStore(tmp_path / "s.sqlite", Limits(bytes=80_000))
    async with (
        serving(GlossaryService(store)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        text = {"form": "txt"}
        await client.put("/drugs", content="apixaban\n", params=text)
        flood = "\n".join(f"term number {number}" for number in range(9000))
        for _ in range(2):
            response = await client.put("/more", content=flood, params=text)
            assert failure(response) == (507, "store_full")
        assert (await client.get("/drugs")).json()["entries"] == [{"term": "apixaban"}]
        assert (await client.delete("/drugs")).status_code == 204
    store.close()


async def test_a_server_without_a_store_says_so(client: httpx.AsyncClient) -> None:
    """Its files are listed; the rest is refused with the name of the setting."""
    bare = GlossaryService(None, {"ward": (Term(text="zinc"),)})
    async with serving(bare) as url, httpx.AsyncClient(base_url=url) as client:
        assert [each["name"] for each in await listed(client)] == ["ward"]
        response = await client.put("/x", content="a", params={"form": "txt"})
        assert failure(response) == (403, "read_only_glossary")
        assert "glossary_store" in response.json()["error"]["message"]
        assert failure(await client.get("/x")) == (404, "unknown_glossary")

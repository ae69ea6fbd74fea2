"""Health, readiness and administration over HTTP, of a real server around a fake engine."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from a2p_engine.errors import ModelError
from a2p_engine.types import StepRequest
from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.test_server import until
from tests.streaming.wire import connect

READY = {"models": True, "glossaries": True, "accepting": True, "capacity": True}


async def get(url: str) -> tuple[int, Any]:
    """Status and JSON of an address."""
    async with httpx.AsyncClient() as http:
        response = await http.get(url)
    return response.status_code, response.json()


async def state_of(server: Running) -> tuple[int, dict[str, str | bool]]:
    """Status and conditions of ``/readyz``."""
    status, answer = await get(server.url + "readyz")
    assert answer["ready"] is (status == 200)
    return status, answer["conditions"]


@asynccontextmanager
async def administered(serving: Serving, **settings: Any) -> AsyncIterator[tuple[Running, str]]:
    """A server with a port for administrators, and its address."""
    async with serving(admin_port=0, **settings) as server:
        yield server, f"http://127.0.0.1:{server.admin_port}"


async def test_a_server_is_ready(serving: Serving, engine: FakeEngine) -> None:
    """Without glossaries of its own it is ready after one step, which had a term to listen for."""
    terms: list[int] = []
    engine.hook = lambda request: terms.append(len(engine.sessions[request.session].terms))
    async with serving(warm_up=True) as server:
        await until(lambda: not server.hub.warm_up.unmet)
        assert await state_of(server) == (200, READY)
    assert terms == [1] and not engine.sessions


async def test_not_before_models_and_glossaries_are_loaded(
    serving: Serving, engine: FakeEngine, tmp_path: Path
) -> None:
    """Each is named until it is done; sessions are taken all the same."""
    go_on = threading.Event()
    engine.hook = lambda request: go_on.wait(10) and None
    paths = {name: tmp_path / f"{name}.txt" for name in ("drugs", "people")}
    for path in paths.values():
        path.write_text("Eliquis\nwarfarin\n", encoding="utf-8")
    async with serving(warm_up=True, glossaries=paths) as server:
        status, conditions = await state_of(server)
        assert (status, conditions["models"]) == (503, "the models are being loaded")
        assert conditions["glossaries"] == "not indexed yet: drugs, people"
        async with connect(server.ws_url) as client:
            await client.start()
        go_on.set()
        await until(lambda: not server.hub.warm_up.unmet)
        assert await state_of(server) == (200, READY)
    # One step with any term, one with each glossary.
    assert len(engine.requests) == 3 and not engine.sessions


async def test_what_cannot_be_loaded_is_named(serving: Serving, engine: FakeEngine) -> None:
    """An engine that fails at its first step never is ready, and says so."""

    def fail(request: StepRequest) -> None:
        raise ModelError("no GPU")

    engine.hook = fail
    async with serving(warm_up=True) as server:
        await until(lambda: "failed" in server.hub.warm_up.unmet["models"])
        status, conditions = await state_of(server)
    assert (status, conditions["models"]) == (503, "the engine failed; the log says why")


async def test_a_glossary_that_cannot_be_used_is_named(
    serving: Serving, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the engine refuses does not hide behind one that it takes."""
    for name in ("good", "bad"):
        (tmp_path / f"{name}.txt").write_text(f"{name} term\n", encoding="utf-8")
    really = engine.open

    def opened(options: Any, glossary: Any = (), **more: Any) -> Any:
        if any(term.text == "bad term" for term in glossary):
            raise ModelError("no")
        return really(options, glossary, **more)

    monkeypatch.setattr(engine, "open", opened)
    paths = {name: tmp_path / f"{name}.txt" for name in ("bad", "good")}
    async with serving(warm_up=True, glossaries=paths) as server:
        await until(lambda: server.hub.warm_up.unmet.get("glossaries") == "cannot be used: bad")
        status, conditions = await state_of(server)
    assert status == 503 and conditions["models"] is True


async def test_a_full_server_is_alive_but_not_ready(serving: Serving) -> None:
    """New clients belong elsewhere, until somebody leaves."""
    async with serving(max_sessions=1) as server:
        async with connect(server.ws_url) as client:
            await client.start()
            status, conditions = await state_of(server)
            assert (status, conditions["capacity"]) == (503, "all 1 sessions are taken")
            assert await get(server.url + "healthz") == (200, {"status": "ok", "sessions": 1})
        await until(lambda: server.hub.sessions == 0)
        assert await state_of(server) == (200, READY)


async def test_a_server_that_would_come_late_is_not_ready(
    serving: Serving, engine: FakeEngine
) -> None:
    """By what steps were measured to take, before all places are taken; a lone session is taken."""
    engine.step_s = 0.8
    async with serving(workers=1, max_sessions=100) as server, connect(server.ws_url) as client:
        await client.start(options={"partials": False})
        await client.send(pcm(*[tone(0.5), silence(1.0)] * 6))
        await client.send({"type": "flush"})
        await client.wait_for("flushed")
        status, conditions = await state_of(server)
        assert status == 503 and "captions would come late" in str(conditions["capacity"])
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(server.url + "metrics")).text
        (load,) = re.findall(r"^a2p_load_ratio (\S+)$", metrics, re.M)
        assert float(load) > 0.1
        await client.send({"type": "stop"})
        await client.until_closed()
        await until(lambda: server.hub.sessions == 0)
        assert (await state_of(server))[0] == 200


async def test_a_drain_takes_no_new_sessions(serving: Serving) -> None:
    """Sessions that are open go on; others are told to come back, which is elsewhere by then."""
    async with administered(serving) as (server, admin), httpx.AsyncClient() as http:
        async with connect(server.ws_url) as client:
            await client.start()
            answer = await http.post(admin + "/admin/drain")
            assert (answer.status_code, answer.json()) == (200, {"sessions": 1})
            status, conditions = await state_of(server)
            assert (status, conditions["accepting"]) == (
                503,
                "the server takes no new clients any more",
            )
            async with connect(server.ws_url) as late:
                await late.send({"type": "start"})
                assert await late.until_closed() == 1012
            await client.send(pcm(tone(1)))
            await client.send({"type": "stop"})
            assert await client.until_closed() == 1000
        assert client.of_type("final")


async def test_an_administrator_stops_the_server(serving: Serving) -> None:
    """As a signal would: last finals come, and the close code says why."""
    async with administered(serving) as (server, admin), httpx.AsyncClient() as http:
        async with connect(server.ws_url) as client:
            await client.start()
            await client.send(pcm(tone(1)))
            await client.wait_for("speech.started")
            assert (await http.post(admin + "/admin/stop")).status_code == 202
            assert await client.until_closed() == 1012
        assert client.of_type("final")
        await asyncio.wait_for(server.stopped(), 10)
        # Until the very end, so that whoever watches sees it.
        assert (await http.get(admin + "/healthz")).json()["status"] == "stopping"


async def test_pages_cannot_administer(serving: Serving) -> None:
    """A browser would let any page send the request; no page may."""
    async with administered(serving) as (server, admin), httpx.AsyncClient() as http:
        for origin in ("http://localhost:3000", admin, "https://elsewhere.example"):
            answer = await http.post(admin + "/admin/stop", headers={"origin": origin})
            assert answer.status_code == 403
        named = await http.get(admin + "/metrics", headers={"host": "rebound.example"})
        assert named.status_code == 403
        assert (await http.get(admin + "/admin/stop")).status_code == 405
        assert not server.hub.leaving


async def test_administration_has_a_port_of_its_own(serving: Serving) -> None:
    """Without one there is no administration; with one the clients' port has no metrics."""
    async with serving() as server, httpx.AsyncClient() as http:
        assert (await http.post(server.url + "admin/drain")).status_code in (404, 405)
        assert (await http.get(server.url + "metrics")).status_code == 200
    async with administered(serving) as (server, admin), httpx.AsyncClient() as http:
        assert (await http.get(server.url + "metrics")).status_code == 404
        assert (await http.get(admin + "/metrics")).status_code == 200
        assert (await http.get(admin + "/readyz")).json()["ready"] is True

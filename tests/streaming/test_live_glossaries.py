"""Stored glossaries in live sessions: changes arrive, edits are kept, keys see only their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from a2p_engine.types import Term
from streaming.errors import SettingsError
from streaming.glossaries.store import GlossaryStore
from streaming.security.keys import KeyRecord, new_key, write_keys
from streaming.server import Running, running
from streaming.settings import ServerSettings
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import Client, connect

WARD = {"glossary": {"name": "ward"}}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one glossary for everybody."""
    path = tmp_path / "glossaries.sqlite"
    stored = GlossaryStore(path)
    stored.replace(None, "ward", [Term(text="apixaban"), Term(text="warfarin")], author="test")
    stored.close()
    return path


@asynccontextmanager
async def http(server: Running, key: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """A client of the REST interface."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        yield client


def terms(engine: FakeEngine) -> set[str]:
    """What the one open session listens for."""
    (session,) = engine.sessions.values()
    return set(session.terms)


async def test_a_change_over_http_is_audible_in_a_running_session(
    serving: Serving, engine: FakeEngine, store: Path
) -> None:
    """The session is told, and the engine has the new terms before its next step."""
    async with (
        serving(glossary_store=store) as server,
        http(server) as rest,
        connect(server.ws_url) as client,
    ):
        started = await client.start(**WARD)
        assert started["glossary"]["terms"] == 2 and terms(engine) == {"apixaban", "warfarin"}
        edit = {"add": ["rivaroxaban"], "remove": ["warfarin"]}
        assert (await rest.patch("api/glossaries/ward", json=edit)).status_code == 200
        updated = await client.wait_for("glossary.updated")
        assert (updated["added"], updated["removed"]) == (1, 1)
        assert terms(engine) == {"apixaban", "rivaroxaban"}
        await client.send(pcm(tone(1), silence(0.7)))
        final = await client.wait_for("final")
        assert {hit["term"] for hit in final["terms"]} == {"apixaban", "rivaroxaban"}


async def test_a_change_by_another_process_is_noticed(
    serving: Serving, engine: FakeEngine, store: Path
) -> None:
    """Such as an import on the command line."""
    async with serving(glossary_store=store) as server, connect(server.ws_url) as client:
        await client.start(**WARD)
        other = GlossaryStore(store)
        other.edit(None, "ward", add=[Term(text="edoxaban")], author="test")
        other.close()
        await client.wait_for("glossary.updated")
        assert "edoxaban" in terms(engine)


async def test_a_later_session_begins_with_what_has_changed(
    serving: Serving, engine: FakeEngine, store: Path
) -> None:
    """It shares the index of the old version, edited; its own entries come on top."""
    async with serving(glossary_store=store) as server, http(server) as rest:
        async with connect(server.ws_url) as client:
            await client.start(**WARD)
            await client.send({"type": "stop"})
            await client.until_closed()
        await rest.patch("api/glossaries/ward", json={"add": ["edoxaban"], "remove": ["warfarin"]})
        async with connect(server.ws_url) as client:
            glossary = {"name": "ward", "terms": ["INR", "apixaban"]}
            started = await client.start(glossary=glossary)
            assert terms(engine) == {"apixaban", "edoxaban", "INR"}
            assert started["glossary"]["terms"] == 3 and started["glossary"]["version"] == 1


async def test_an_edit_can_be_kept(serving: Serving, engine: FakeEngine, store: Path) -> None:
    """With ``save`` the stored glossary changes too, and other sessions hear of it."""
    async with (
        serving(glossary_store=store) as server,
        connect(server.ws_url) as client,
        connect(server.ws_url) as other,
    ):
        await client.start(**WARD)
        await other.start(**WARD)
        edit = {"type": "glossary.edit", "add": ["dabigatran"], "remove": ["apixaban"]}
        await client.send(edit | {"save": True})
        await client.wait_for("glossary.updated")
        await other.wait_for("glossary.updated")
        assert all(set(s.terms) == {"warfarin", "dabigatran"} for s in engine.sessions.values())
    stored = GlossaryStore(store)
    ward = stored.find(None, "ward")
    assert ward and {term.text for term in stored.terms(ward)} == {"warfarin", "dabigatran"}
    stored.close()


@pytest.mark.parametrize("glossary", [{"terms": ["INR"]}, {"name": "file"}])
async def test_only_a_stored_glossary_can_be_edited_for_good(
    serving: Serving, engine: FakeEngine, store: Path, tmp_path: Path, glossary: dict[str, Any]
) -> None:
    """Elsewhere it is an error that changes nothing and ends nothing."""
    (tmp_path / "file.txt").write_text("INR\n")
    files = {"file": tmp_path / "file.txt"}
    async with (
        serving(glossary_store=store, glossaries=files) as server,
        connect(server.ws_url) as client,
    ):
        await client.start(glossary=glossary)
        await client.send({"type": "glossary.edit", "add": ["x1"], "save": True})
        error = await client.wait_for("error")
        assert error["code"] == "bad_command" and "stored glossary" in error["message"]
        assert not error["fatal"] and terms(engine) == {"INR"}


async def test_keys_see_and_use_their_own_glossaries_only(
    engine: FakeEngine, store: Path, tmp_path: Path
) -> None:
    """Another key's glossary is neither listed nor found, as if it were not there."""
    made = [
        new_key("ana", scopes=("captions", "glossary:read", "glossary:write")),
        new_key("ben", scopes=("captions",)),
    ]
    records: list[KeyRecord] = [key.record for key in made]
    write_keys(tmp_path / "keys.json", records)
    ana, ben = (key.secret for key in made)
    settings = ServerSettings(
        port=0, glossary_store=store, keys_file=tmp_path / "keys.json", warm_up=False
    )
    async with running(settings, engine) as server:
        async with http(server, ana) as rest:
            put = await rest.put("api/glossaries/mine", json=["Wiskott"])
            assert put.status_code == 201, put.text
            assert (await rest.get("api/info")).json()["glossaries"] == {"ward": 2, "mine": 1}
        async with http(server, ben) as rest:
            assert (await rest.get("api/info")).json()["glossaries"] == {"ward": 2}
            assert (await rest.get("api/glossaries/mine")).status_code == 403
        for key, kind in ((ana, "session.started"), (ben, "error")):
            bearer = {"Authorization": f"Bearer {key}"}
            async with connect(server.ws_url, additional_headers=bearer) as client:
                await client.send({"type": "start", "glossary": {"name": "mine"}})
                answer = await client.wait_for(kind)
        assert "accepted: ward" in answer["message"] and "mine;" not in answer["message"]


async def test_the_default_may_be_a_stored_glossary(
    serving: Serving, engine: FakeEngine, store: Path
) -> None:
    """One that is nowhere is an error before the server listens."""
    async with serving(glossary_store=store, default_glossary="ward") as server:
        async with connect(server.ws_url) as client:
            assert (await client.start())["glossary"]["terms"] == 2
    with pytest.raises(SettingsError, match="default_glossary 'word' is not one of: ward"):
        async with serving(glossary_store=store, default_glossary="word"):
            pass


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that takes moments."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_session_that_ends_follows_no_more(
    serving: Serving, engine: FakeEngine, store: Path
) -> None:
    """A change after its end reaches nobody and fails nowhere."""

    async def change(client: Client, server: Running) -> None:
        await client.start(**WARD)
        await client.send({"type": "stop"})
        await client.until_closed()
        await until(lambda: not engine.sessions)
        async with http(server) as rest:
            answer = await rest.patch("api/glossaries/ward", json={"add": ["late"]})
            assert answer.status_code == 200

    async with serving(glossary_store=store) as server, connect(server.ws_url) as client:
        await change(client, server)
    assert not [m for m in client.got if m["type"] == "glossary.updated"]

"""What the page captures and sends, and what it does when the server or the way to it fails."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from streaming.app import create_app
from streaming.security.keys import new_key, write_keys
from tests.integration.captions_page.conftest import OpenPage
from tests.integration.captions_page.page import serving, start
from tests.streaming.flaky import flaky_proxy

# One browser serves all tests of a module, so they share its event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# After so long the page takes a connection for dead, and gives up what comes after Stop.
SILENCE_MS = 15_000
END_TIMEOUT_MS = 15_000


async def test_the_server_gets_the_rate_of_the_audio_context(open_page: OpenPage) -> None:
    """The page announces the rate it captures at, and sends the microphone's speech at it."""
    async with serving() as server:
        page = await open_page(server)
        sent: list[str | bytes] = []
        page.on("websocket", lambda ws: ws.on("framesent", lambda frame: sent.append(frame)))
        await start(page)
        rate_hz = await page.evaluate("new AudioContext().sampleRate")
        assert f'"sample_rate_hz":{rate_hz}' in str(sent[0])
        frames = [frame for frame in sent if isinstance(frame, bytes)]
        assert {len(frame) for frame in frames} == {round(rate_hz * 0.05) * 2}


async def test_the_page_comes_back_after_a_restart_of_the_server(open_page: OpenPage) -> None:
    """A lost server is told, the page reconnects, and times keep counting."""
    async with AsyncExitStack() as stack:
        async with serving() as server:
            page = await open_page(server)
            await start(page, "w1")
            await server.stop()
        await expect(page.locator("#state")).to_contain_text("next try in")
        before = await page.locator("#lines li").count()
        again = await stack.enter_async_context(serving(port=server.port))
        await expect(page.locator("#state")).to_have_text("Live")
        await expect(page.locator(f"#lines li:nth-child({before + 1})")).to_be_visible()
        clocks = await times(page)
        assert clocks == sorted(set(clocks)), "a line came twice or time went back"
        assert "w1" in next(iter(again.hub.engine.sessions.values())).terms


async def test_the_page_goes_on_over_broken_connections(open_page: OpenPage) -> None:
    """The session is the same one, the open caption stays, and no line is lost or comes twice."""
    async with serving() as server, flaky_proxy(server.port) as proxy:
        page = await open_page(server, base=f"http://127.0.0.1:{proxy.port}/")
        await start(page, "w1")
        (engine_session,) = server.hub.engine.sessions
        for lines in (2, 3, 4):
            proxy.cut()
            await page.get_by_label("Terms, one a line").fill(f"w1\nw{lines}")
            await page.locator("#language").focus()
            await expect(page.locator("#state")).to_have_text("Live")
            await expect(page.locator(f"#lines li:nth-child({lines})")).to_be_visible()
        assert list(server.hub.engine.sessions) == [engine_session]
        assert set(server.hub.engine.sessions[engine_session].terms) == {"w1", "w4"}
        clocks = await times(page)
        assert clocks == sorted(set(clocks)) and proxy.connections >= 4


async def test_the_page_notices_a_network_that_died_silently(open_page: OpenPage) -> None:
    """Nothing closes, but no statistics come: the page resumes in time, and no sound is lost."""
    async with serving() as server, flaky_proxy(server.port) as proxy:
        page = await open_page(server, base=f"http://127.0.0.1:{proxy.port}/")
        events, lines = await begun(page)
        proxy.stall()
        await asyncio.sleep(1)
        await page.clock.fast_forward(SILENCE_MS)
        later = page.locator(f"#lines li:nth-child({lines + 2})")
        await expect(later).to_be_visible(timeout=20_000)
        await expect(page.locator("#state")).to_have_text("Live")
        assert [event["skipped_frames"] for event in of_type(events, "session.resumed")] == [0]
        assert len(of_type(events, "session.started")) == server.hub.sessions == 1
        clocks = await times(page)
        assert clocks == sorted(set(clocks))


@pytest.mark.parametrize("told", [True, False], ids=["broken", "dead"])
async def test_stop_while_disconnected_waits_for_the_last_words(
    open_page: OpenPage, told: bool
) -> None:
    """What was said meanwhile is sent when the server is back, be the break known or not."""
    async with serving() as server, flaky_proxy(server.port) as proxy:
        page = await open_page(server, base=f"http://127.0.0.1:{proxy.port}/")
        events, lines = await begun(page)
        if told:
            proxy.retarget(unused_port())
            await expect(page.locator("#state")).to_contain_text("next try in")
        else:
            proxy.stall()
        await asyncio.sleep(2)
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("button", name="Finishing…")).to_be_disabled()
        if told:
            proxy.retarget(server.port)
        else:
            await page.clock.fast_forward(SILENCE_MS)
        await expect(page.locator("#state")).to_have_text("Ready")
        (started,) = of_type(events, "session.started")
        (resumed,) = of_type(events, "session.resumed")
        (ended,) = of_type(events, "session.ended")
        rate_hz = started["audio"]["sample_rate_hz"]
        # In whole frames: a difference of seconds may be 1.9999999999999996.
        assert round(ended["audio_s"] * rate_hz) - resumed["next_frame"] >= 2 * rate_hz
        assert await page.locator("#lines li").count() > lines
        await expect(page.get_by_role("button", name="Start")).to_be_enabled()


async def test_stop_does_not_wait_for_ever(open_page: OpenPage) -> None:
    """If the server stays away, the page says what is missing, and can start again."""
    async with serving() as server, flaky_proxy(server.port) as proxy:
        page = await open_page(server, base=f"http://127.0.0.1:{proxy.port}/")
        await page.clock.install()
        await start(page)
        proxy.retarget(unused_port())
        await expect(page.locator("#state")).to_contain_text("next try in")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("button", name="Finishing…")).to_be_disabled()
        await page.clock.fast_forward(END_TIMEOUT_MS)
        await expect(page.get_by_role("alert")).to_have_text("The last captions did not arrive")
        await expect(page.get_by_role("button", name="Start")).to_be_enabled()


def received(page: Page) -> list[dict[str, Any]]:
    """The server's messages to a page, as they come."""
    events: list[dict[str, Any]] = []

    def note(frame: str | bytes) -> None:
        events.append(json.loads(frame))

    page.on("websocket", lambda opened: opened.on("framereceived", note))
    return events


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The messages of one type."""
    return [event for event in events if event["type"] == kind]


async def begun(page: Page) -> tuple[list[dict[str, Any]], int]:
    """Start with a clock that can be put forward: what is received, and the lines that stand."""
    await page.clock.install()
    events = received(page)
    await start(page)
    return events, await page.locator("#lines li").count()


async def times(page: Page) -> list[float]:
    """Seconds at which the lines begin."""
    return [seconds(text) for text in await page.locator("#lines time").all_inner_texts()]


def unused_port() -> int:
    """A port at which connections are refused."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def seconds(clock: str) -> float:
    """1:05.3 as seconds."""
    minutes, rest = clock.split(":")
    return int(minutes) * 60 + float(rest)


async def test_the_page_works_behind_a_proxy_with_a_prefix(open_page: OpenPage) -> None:
    """All addresses are relative: nothing is asked for outside of the prefix."""
    async with serving() as server:
        app = Starlette(routes=[Mount("/captions", create_app(server.hub))])
        async with mounted(app) as address:
            page = await open_page(server, base=f"{address}/captions/")
            await start(page, "w1")
            await expect(page.locator("#lines .term").first).to_be_visible()


@asynccontextmanager
async def mounted(app: Starlette) -> AsyncIterator[str]:
    """Serve an application on a free port; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="websockets-sansio")
        other = uvicorn.Server(config)
        task = asyncio.create_task(other.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        other.should_exit = True
        await task


async def test_the_sound_of_a_tab_is_captured(open_page: OpenPage) -> None:
    """With tab audio the page hears another tab, and stops when sharing ends."""
    async with serving() as server:
        page = await open_page(server)
        other = await page.context.new_page()
        await other.goto(f"{server.url}healthz")
        await other.evaluate(PLAY_A_TONE)
        await page.bring_to_front()
        await page.evaluate(KEEP_THE_SHARED_STREAM)
        await page.get_by_label("Tab audio").check()
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#state")).to_have_text("Live")
        meter = page.get_by_role("meter", name="Input level")
        await expect(meter).to_have_attribute("aria-valuenow", re.compile(r"^[5-9]\d$"))
        # Headless Chromium has no "Stop sharing" button; this is what it would do.
        await page.evaluate("shared.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        await expect(page.get_by_role("button", name="Start")).to_be_enabled()


KEEP_THE_SHARED_STREAM = """() => {
  const real = navigator.mediaDevices.getDisplayMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getDisplayMedia = async (wish) => (window.shared = await real(wish));
}"""
PLAY_A_TONE = """() => {
  document.title = "Meeting";
  const context = new AudioContext(), tone = context.createOscillator();
  tone.connect(context.destination);
  tone.start();
}"""


async def test_a_blocked_microphone_is_explained(open_page: OpenPage) -> None:
    """A refusal of the browser is one sentence on the page, and Start works again."""
    async with serving() as server:
        page = await open_page(server)
        await page.evaluate(
            """() => { navigator.mediaDevices.getUserMedia =
              () => Promise.reject(new DOMException("no", "NotAllowedError")); }"""
        )
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("alert")).to_contain_text("The microphone is blocked")
        await expect(page.get_by_role("button", name="Start")).to_be_enabled()


async def test_a_page_that_is_closed_frees_its_session(open_page: OpenPage) -> None:
    """Closing the tab ends the session on the server."""
    async with serving() as server:
        page = await open_page(server)
        await start(page)
        await page.close()
        for _ in range(100):
            if not server.hub.sessions:
                break
            await asyncio.sleep(0.05)
        assert server.hub.sessions == 0


async def test_a_key_behind_the_address_opens_the_server(
    open_page: OpenPage, browser: Browser, tmp_path: Path
) -> None:
    """It comes with requests and the socket, never in an address; without it the page says so."""
    made = new_key("page")
    write_keys(tmp_path / "keys.json", [made.record])
    async with serving(keys_file=tmp_path / "keys.json") as server:
        page = await open_page(server, f"#key={made.secret}")
        asked: list[str] = []
        page.on("websocket", lambda opened: asked.append(opened.url))
        await start(page)
        assert asked == [server.ws_url]
        async with await browser.new_context() as context:
            stranger = await context.new_page()
            await stranger.goto(server.url)
            await expect(stranger.get_by_role("alert")).to_contain_text("asks for an API key")

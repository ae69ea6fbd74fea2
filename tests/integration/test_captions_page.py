"""The captions page in a real Chromium, on the real server, with speech for a microphone.

The engine alone is a stand-in: it writes w0, w1, w2... for every quarter second of detected speech
and finds every glossary term with probability 0.5, so that what must appear is known.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import soundfile
import soxr
import uvicorn
from playwright.async_api import Browser, Page, Playwright, async_playwright, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from streaming.app import create_app
from streaming.security.keys import new_key, write_keys
from streaming.server import Running, running
from streaming.settings import ServerSettings
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.flaky import flaky_proxy

SPEECH = Path(__file__).parents[2] / "examples" / "data" / "ward_round.flac"
# One browser serves all tests, so they share its event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--auto-select-tab-capture-source-by-title=Meeting",
]
# After so long the page takes a connection for dead, and gives up what comes after Stop.
SILENCE_MS = 15_000
END_TIMEOUT_MS = 15_000
# Least contrast of text that WCAG 2.2 asks for at level AA.
CONTRAST_AA = 4.5


def chromium() -> str:
    """Path of the browser; without one these tests fail rather than pass unseen."""
    path = shutil.which("chromium")
    assert path, "Chromium is missing: run scripts/setup-system, which installs it"
    return path


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech of the demo recording as the WAV file that Chromium plays into its fake microphone.

    A pause after two seconds makes the first caption finish soon.
    """
    samples, rate_hz = soundfile.read(SPEECH, dtype="float32")
    pause = np.zeros(rate_hz, np.float32)
    speech = samples[rate_hz : 6 * rate_hz]
    parts = [speech[: 2 * rate_hz], pause, speech[2 * rate_hz :], pause]
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    resampled = soxr.resample(np.concatenate(parts), rate_hz, 48_000)
    soundfile.write(path, resampled, 48_000, subtype="PCM_16")
    return path


async def launch(playwright: Playwright, microphone: Path) -> Browser:
    """Start Chromium with a recording for its microphone."""
    capture = f"--use-file-for-fake-audio-capture={microphone}"
    return await playwright.chromium.launch(
        executable_path=chromium(), args=[*FLAGS, capture], headless=True
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(microphone: Path) -> AsyncIterator[Browser]:
    """Chromium, which hears the demo recording over and over."""
    async with async_playwright() as playwright:
        browser = await launch(playwright, microphone)
        yield browser
        await browser.close()


@asynccontextmanager
async def serving(port: int = 0, **settings: Any) -> AsyncIterator[Running]:
    """The real server with the stand-in for an engine."""
    async with running(ServerSettings(port=port, **settings), FakeEngine()) as server:
        yield server


OpenPage = Callable[..., Any]


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens the page; at the end no script may have failed and nothing foreign been asked for."""
    complaints: list[str] = []
    foreign: list[str] = []
    async with AsyncExitStack() as stack:

        async def open_it(
            server: Running, path: str = "", *, base: str = "", **context_options: Any
        ) -> Page:
            base = base or server.url
            context = await browser.new_context(**context_options)
            stack.push_async_callback(context.close)
            page = await context.new_page()
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
            page.on(
                "request",
                lambda request: (
                    request.url.startswith((base, "blob:")) or foreign.append(request.url)
                ),
            )
            await page.goto(base + path)
            return page

        yield open_it
    assert not [text for text in complaints if "WebSocket connection" not in text]
    assert not foreign


async def start(page: Page, terms: str = "") -> None:
    """Fill the glossary, press Start and wait for the first finished caption."""
    if terms:
        await page.get_by_label("Terms, one a line").fill(terms)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#lines li").first).to_be_visible(timeout=20_000)


async def test_speech_becomes_captions_with_a_volatile_tail(open_page: OpenPage) -> None:
    """Partials appear while speech goes on, their tail is dimmed, finals stay, the delay shows."""
    async with serving() as server:
        page = await open_page(server)
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#state")).to_have_text("Live")
        tail = page.locator("#open .volatile").first
        await expect(tail).to_contain_text(re.compile(r"w\d"))
        assert await color(page, "#open .volatile") != await color(page, "#open")
        await expect(page.locator("#lines li p").first).to_have_text(re.compile(r"^w0 w1 w2"))
        await expect(page.locator("#delay-value")).to_have_text(re.compile(r"^\d\.\d s$"))
        level = await page.get_by_role("meter", name="Input level").get_attribute("aria-valuenow")
        assert 0 <= int(level or -1) <= 100


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


async def test_a_term_shows_its_probability_to_pointer_and_keyboard(open_page: OpenPage) -> None:
    """Hovering and focusing a term show probability; Escape hides it; the name says it too."""
    async with serving() as server:
        page = await open_page(server)
        await start(page, "w1")
        term = page.locator("#lines .term").first
        await expect(term).to_have_text("w1")
        tip = page.get_by_role("tooltip")
        await term.hover()
        await expect(tip).to_contain_text("w1: probability 0.50")
        await page.mouse.move(1, 1)
        await expect(tip).to_be_hidden()
        await page.locator("#captions").focus()
        await page.keyboard.press("Tab")
        await expect(term).to_be_focused()
        await expect(tip).to_contain_text("probability 0.50")
        await page.keyboard.press("Escape")
        await expect(tip).to_be_hidden()
        await expect(term).to_have_accessible_name("w1: glossary term, probability 0.50")


async def test_a_glossary_edit_takes_effect_while_speaking(open_page: OpenPage) -> None:
    """A changed line is sent as a difference, acknowledged with a version, and bad ones named."""
    async with serving() as server:
        page = await open_page(server)
        await start(page, "w1\nold")
        state = page.locator("#glossary-state")
        await expect(state).to_have_text("version 1 · 2 terms")
        box = page.get_by_label("Terms, one a line")
        await box.fill("w1\nw2\n" + "x" * 300)
        await expect(state).to_have_text("version 2 · 2 terms")
        await expect(page.locator("#rejected")).to_contain_text("xxx")
        await expect(page.locator("#lines .term", has_text="w2").first).to_be_visible()
        assert {"w1", "w2"} == set(*[s.terms for s in server.hub.engine.sessions.values()])


async def test_glossaries_of_the_server_are_offered_by_name(
    open_page: OpenPage, tmp_path: Path
) -> None:
    """The list comes from the server; the chosen one is in force from the start."""
    (tmp_path / "drugs.txt").write_text("w0\nw1\nw2\n")
    async with serving(glossaries={"drugs": tmp_path / "drugs.txt"}) as server:
        page = await open_page(server)
        await page.get_by_label("Glossary of the server").select_option("drugs (3 terms)")
        await start(page)
        await expect(page.locator("#glossary-state")).to_have_text("version 1 · 3 terms")
        await expect(page.get_by_label("Glossary of the server")).to_be_disabled()


async def test_it_can_be_said_how_probable_used_terms_must_be(open_page: OpenPage) -> None:
    """The engine gets the name of the threshold, which is fixed while captions run."""
    async with serving() as server:
        page = await open_page(server)
        await expect(page.get_by_label("Use terms")).to_have_value("balanced")
        await page.get_by_label("Use terms").select_option("Only when sure")
        await start(page)
        (session,) = server.hub.engine.sessions.values()
        assert session.options.threshold == "cautious"
        await expect(page.get_by_label("Use terms")).to_be_disabled()


async def test_languages_of_the_server_are_offered_in_words(open_page: OpenPage) -> None:
    """English is chosen at first, detection stands at the top."""
    async with serving() as server:
        page = await open_page(server)
        languages = page.get_by_label("Spoken language")
        await expect(languages).to_have_value("en")
        names = await languages.locator("option").all_inner_texts()
        assert names == ["Detect automatically", "English", "German"]


async def test_a_translation_stands_above_what_was_said(open_page: OpenPage) -> None:
    """Chosen by its language; both lines are told apart and marked for a screen reader's voice."""
    async with serving() as server:
        page = await open_page(server)
        await page.get_by_label("Captions in").select_option("English, with what was said")
        await start(page)
        (session,) = server.hub.engine.sessions.values()
        assert (session.options.task, session.options.target_language) == ("translate", "en")
        await expect(page.locator("#open .source")).to_contain_text("palabras")
        said = page.locator("#lines li p .source").first
        await expect(said).to_contain_text("palabras")
        await expect(said).to_have_attribute("lang", "es")
        await expect(page.get_by_label("Captions in")).to_be_disabled()


async def test_stop_delivers_the_last_words_and_the_transcript(open_page: OpenPage) -> None:
    """After Stop nothing is open, the page can start again, and the transcript is complete."""
    async with serving() as server:
        page = await open_page(server)
        await start(page)
        await expect(page.locator("#open .volatile").first).to_be_visible()
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("button", name="Start")).to_be_enabled()
        await expect(page.locator("#open")).to_be_empty()
        lines = await page.locator("#lines li p").all_text_contents()
        assert len(lines) >= 2
        assert await download(page, ".txt") == "".join(f"{line}\n" for line in lines)
        srt, vtt = await download(page, ".srt"), await download(page, ".vtt")
        assert re.match(r"1\n00:00:\d\d,\d{3} --> 00:00:\d\d,\d{3}\nw0 w1", srt)
        assert re.match(r"WEBVTT\n\n00:00:\d\d\.\d{3} --> 00:00:\d\d\.\d{3}\nw0 w1", vtt)
        for text in (srt, vtt):
            assert " ".join(re.findall(r"w\d+", text)) == " ".join(lines)
            assert max(map(len, text.splitlines())) <= 43
        assert server.hub.sessions == 0


async def download(page: Page, suffix: str) -> str:
    """The transcript in a format, as the user gets it."""
    await page.get_by_label("Format").select_option(suffix)
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download").click()
    file = await waiting.value
    assert file.suggested_filename == f"captions{suffix}"
    return await asyncio.to_thread(Path(await file.path()).read_text)


async def test_finals_are_spoken_once_and_partials_never(open_page: OpenPage) -> None:
    """The polite live region holds finished captions only."""
    async with serving() as server:
        page = await open_page(server)
        await start(page)
        log = page.get_by_role("log", name="Finished captions")
        await expect(log).to_have_attribute("aria-live", "polite")
        spoken = await log.locator("p").all_text_contents()
        assert spoken == await page.locator("#lines li p").all_text_contents()
        regions = "[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log]"
        assert await page.locator(f":is({regions}) #open").count() == 0


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
        clocks = [seconds(text) for text in await page.locator("#lines time").all_inner_texts()]
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
        clocks = [seconds(text) for text in await page.locator("#lines time").all_inner_texts()]
        assert clocks == sorted(set(clocks)) and proxy.connections >= 4


async def test_the_page_notices_a_network_that_died_silently(open_page: OpenPage) -> None:
    """Nothing closes, but no statistics come: the page resumes in time, and no sound is lost."""
    async with serving() as server, flaky_proxy(server.port) as proxy:
        page = await open_page(server, base=f"http://127.0.0.1:{proxy.port}/")
        await page.clock.install()
        events = received(page)
        await start(page)
        lines = await page.locator("#lines li").count()
        proxy.stall()
        await asyncio.sleep(1)
        await page.clock.fast_forward(SILENCE_MS)
        later = page.locator(f"#lines li:nth-child({lines + 2})")
        await expect(later).to_be_visible(timeout=20_000)
        await expect(page.locator("#state")).to_have_text("Live")
        assert [event["skipped_frames"] for event in of_type(events, "session.resumed")] == [0]
        assert len(of_type(events, "session.started")) == server.hub.sessions == 1
        clocks = [seconds(text) for text in await page.locator("#lines time").all_inner_texts()]
        assert clocks == sorted(set(clocks))


@pytest.mark.parametrize("told", [True, False], ids=["broken", "dead"])
async def test_stop_while_disconnected_waits_for_the_last_words(
    open_page: OpenPage, told: bool
) -> None:
    """What was said meanwhile is sent when the server is back, be the break known or not."""
    async with serving() as server, flaky_proxy(server.port) as proxy:
        page = await open_page(server, base=f"http://127.0.0.1:{proxy.port}/")
        await page.clock.install()
        events = received(page)
        await start(page)
        lines = await page.locator("#lines li").count()
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
        assert ended["audio_s"] - resumed["next_frame"] / rate_hz >= 2
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


def unused_port() -> int:
    """A port at which connections are refused."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def seconds(clock: str) -> float:
    """1:05.3 as seconds."""
    minutes, rest = clock.split(":")
    return int(minutes) * 60 + float(rest)


async def test_everything_works_by_keyboard(open_page: OpenPage) -> None:
    """Shortcuts do what the help says, never while typing, and can be switched off."""
    async with serving() as server:
        page = await open_page(server)
        start_button, theme = page.locator("#start"), page.get_by_role("button", name="Dark theme")
        await page.keyboard.press("g")
        box = page.get_by_label("Terms, one a line")
        await expect(box).to_be_focused()
        await page.keyboard.type("sdl?")
        await expect(box).to_have_value("sdl?")
        await expect(start_button).to_have_text("Start")
        await page.keyboard.press("Escape")
        await page.keyboard.press("d")
        await expect(theme).to_have_attribute("aria-pressed", "true")
        await page.keyboard.press("l")
        await expect(page.get_by_role("button", name="Large type")).to_have_attribute(
            "aria-pressed", "true"
        )
        await page.keyboard.press("?")
        help_dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
        await expect(help_dialog).to_be_visible()
        await page.get_by_label("Single-key shortcuts on").uncheck()
        await page.keyboard.press("Escape")
        await expect(help_dialog).to_be_hidden()
        await page.keyboard.press("d")
        await expect(theme).to_have_attribute("aria-pressed", "true")
        await page.evaluate("document.getElementById('single-keys').checked = true")
        await page.keyboard.press("s")
        await expect(start_button).to_have_text("Stop")
        await page.keyboard.press("s")
        await expect(start_button).to_have_text("Start")


async def test_every_control_has_a_name_and_a_visible_focus(open_page: OpenPage) -> None:
    """The accessibility tree names all controls; Tab reaches them with an outline."""
    async with serving() as server:
        page = await open_page(server)
        devtools = await page.context.new_cdp_session(page)
        tree = await devtools.send("Accessibility.getFullAXTree")
        controls = {"button", "textbox", "combobox", "radio", "meter", "status", "complementary"}
        nodes = [node for node in tree["nodes"] if node.get("role", {}).get("value") in controls]
        assert len(nodes) >= 12
        unnamed = [node for node in nodes if not name_of(node) and role_of(node) != "status"]
        assert not unnamed
        reached = set()
        for _ in range(14):
            await page.keyboard.press("Tab")
            focus = await page.evaluate(
                """() => { const e = document.activeElement, shown = e.type === "radio" ?
                e.nextElementSibling : e; return [e.id || e.value || e.className,
                getComputedStyle(shown).outlineStyle]; }"""
            )
            assert focus[1] != "none" or focus[0] in ("", "skip"), focus
            reached.add(focus[0])
        assert {"skip", "captions", "terms", "start", "microphone", "show-help"} <= reached


def name_of(node: dict[str, Any]) -> str:
    """Accessible name of a node."""
    return str(node.get("name", {}).get("value", ""))


def role_of(node: dict[str, Any]) -> str:
    """Role of a node."""
    return str(node["role"]["value"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_colours_follow_the_system_and_the_toggle(open_page: OpenPage, scheme: str) -> None:
    """Both schemes are legible at level AA; the toggle switches to the other one."""
    async with serving() as server:
        page = await open_page(server, color_scheme=scheme)
        await start(page, "w0 w1")
        await expect(page.locator("#open .volatile").first).to_be_visible()
        await page.mouse.move(1, 1)
        for _ in range(2):
            for selector in [
                "#lines p",
                "#lines .term",
                "#lines time",
                "#open",
                ".consent",
                ".hint",
                "#state",
                "#start",
                "#toggle-glossary",
            ]:
                assert await contrast(page, selector) >= CONTRAST_AA, selector
            before = await background(page)
            await page.get_by_role("button", name="Dark theme").click()
            await page.mouse.move(1, 1)
            assert await background(page) != before


async def color(page: Page, selector: str) -> str:
    """Text colour in force."""
    element = page.locator(selector).first
    return str(await element.evaluate("element => getComputedStyle(element).color"))


async def background(page: Page) -> str:
    """Colour of the page's ground."""
    return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))


async def contrast(page: Page, selector: str) -> float:
    """Contrast ratio of an element's text with the nearest ground behind it."""
    return float(
        await page.locator(selector).first.evaluate(
            """element => {
              const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
              let ground = element;
              while ((numbers(getComputedStyle(ground).backgroundColor)[3] ?? 1) < 1)
                ground = ground.parentElement;
              const light = (text) => numbers(text).slice(0, 3).map((value) => {
                const share = value / 255;
                return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
              }).reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
              const pair = [getComputedStyle(element).color,
                getComputedStyle(ground).backgroundColor].map(light).sort((a, b) => b - a);
              return (pair[0] + 0.05) / (pair[1] + 0.05);
            }"""
        )
    )


async def test_the_overlay_shows_captions_only_on_nothing(open_page: OpenPage) -> None:
    """It starts by itself, its ground is transparent, and it never outgrows its lines."""
    async with serving() as server:
        page = await open_page(server, "?overlay=1&lines=3", viewport={"width": 800, "height": 450})
        overlay = page.locator(".overlay")
        await expect(overlay).to_contain_text("w0 w1 w2")
        assert await background(page) == "rgba(0, 0, 0, 0)"
        await expect(page.locator("header, main, footer")).to_have_count(3)
        for part in ("header", "main", "footer"):
            await expect(page.locator(part)).to_be_hidden()
        box, line = await overlay.evaluate(
            "e => [e.clientHeight, parseFloat(getComputedStyle(e).lineHeight)]"
        )
        assert box == pytest.approx(3 * line, abs=2)
        assert await overlay.locator("p").count() <= 3
        await page.goto(f"{server.url}?overlay=1&ground=lime")
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        assert await page.evaluate(ground) == "rgb(0, 255, 0)"


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


async def test_on_a_narrow_screen_nothing_is_cut_off(open_page: OpenPage) -> None:
    """At 320 pixels the page does not scroll sideways; the glossary is one press away."""
    async with serving() as server:
        page = await open_page(server, viewport={"width": 320, "height": 640}, has_touch=True)
        await start(page)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width == 320
        box = page.get_by_label("Terms, one a line")
        await expect(box).to_be_hidden()
        await page.get_by_role("button", name="Glossary").tap()
        await expect(box).to_be_visible()


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

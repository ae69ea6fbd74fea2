"""What the page shows of speech: captions, their terms and translation, and the transcript."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.integration.captions_page.conftest import OpenPage
from tests.integration.captions_page.page import serving, start

# One browser serves all tests of a module, so they share its event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def color(page: Page, selector: str) -> str:
    """Text colour in force."""
    element = page.locator(selector).first
    return str(await element.evaluate("element => getComputedStyle(element).color"))


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

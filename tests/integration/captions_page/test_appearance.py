"""How the page looks, how the keyboard works it, and what it tells assistive technology."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.integration.captions_page.conftest import OpenPage
from tests.integration.captions_page.page import serving, start

# One browser serves all tests of a module, so they share its event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# Least contrast of text that WCAG 2.2 asks for at level AA.
CONTRAST_AA = 4.5


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

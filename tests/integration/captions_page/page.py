"""The real server for the captions page, and the first caption on it.

The engine alone is a stand-in: it writes w0, w1, w2... for every quarter second of detected speech
and finds every glossary term with probability 0.5, so that what must appear is known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page, expect

from streaming.server import Running, running
from streaming.settings import ServerSettings
from tests.streaming.fake_engine import FakeEngine


@asynccontextmanager
async def serving(port: int = 0, **settings: Any) -> AsyncIterator[Running]:
    """The real server with the stand-in for an engine."""
    async with running(ServerSettings(port=port, **settings), FakeEngine()) as server:
        yield server


async def start(page: Page, terms: str = "") -> None:
    """Fill the glossary, press Start and wait for the first finished caption."""
    if terms:
        await page.get_by_label("Terms, one a line").fill(terms)
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#lines li").first).to_be_visible(timeout=20_000)

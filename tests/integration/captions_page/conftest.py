"""A real Chromium for the tests of the captions page, with speech for a microphone."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import soundfile
import soxr
from playwright.async_api import Browser, Page, Playwright, async_playwright

from streaming.server import Running

SPEECH = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
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

OpenPage = Callable[..., Any]


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

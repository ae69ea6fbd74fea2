"""A fake engine, and servers around it on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from streaming.server import Running, running
from streaming.settings import ServerSettings
from tests.streaming.fake_engine import FakeEngine

Serving = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def engine() -> FakeEngine:
    """An engine that hears lengths only."""
    return FakeEngine()


@pytest.fixture
def serving(engine: FakeEngine) -> Serving:
    """Starts a server around the fake engine, with settings and publishers as given."""

    @asynccontextmanager
    async def start(*, publishers: Any = (), **settings: Any) -> AsyncIterator[Running]:
        # The steps of a warm-up would count among those that tests look at.
        chosen = ServerSettings.load(port=0, **{"warm_up": False, **settings})
        async with running(chosen, engine, publishers) as server:
            yield server

    return start

"""A model and a glossary that are small enough for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from a2p_engine.bench import presets
from a2p_engine.bench.glossaries import Glossary, GlossaryMaker
from a2p_engine.bench.presets import Preset
from a2p_engine.bench.stage import Stage
from a2p_engine.bench.synthetic import Model

TINY = Preset(name="tiny", width=32, heads=4, vocabulary=3_000)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def preset(monkeypatch: pytest.MonkeyPatch) -> Preset:
    """A preset that can be asked for by the name ``tiny``."""
    monkeypatch.setitem(presets.PRESETS, TINY.name, TINY)
    return TINY


@pytest.fixture(scope="session")
def model() -> Model:
    """A random one of the tiny preset."""
    return Model.random(TINY, torch.device("cpu"), seed=1)


@pytest.fixture(scope="session")
def maker() -> GlossaryMaker:
    """Of glossaries over its vocabulary."""
    return GlossaryMaker(TINY.vocabulary, seed=1)


@pytest.fixture
def glossary(maker: GlossaryMaker) -> Glossary:
    """Three hundred terms."""
    return maker.make(300)


@pytest.fixture
def stage(model: Model, glossary: Glossary) -> Stage:
    """Ready to be scored; a test may change its table."""
    return Stage.of(model, glossary)

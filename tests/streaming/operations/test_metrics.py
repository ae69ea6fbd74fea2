"""The metrics of real servers with real clients; only the engine is a fake."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from a2p_engine.errors import ModelError
from a2p_engine.types import StepRequest
from streaming.operations.metrics import Metrics
from streaming.outbox import Outbox
from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.test_outbox import partial
from tests.streaming.test_server import STOP, TWO_SEGMENTS, until
from tests.streaming.wire import connect

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(server: Running) -> Samples:
    """Everything at ``/metrics`` as a Prometheus server reads it, without the prefix."""
    async with httpx.AsyncClient() as http:
        response = await http.get(server.url + "metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name.removeprefix("a2p_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """One of the samples."""
    return samples[name, frozenset(labels.items())]


async def test_a_session_leaves_its_traces(serving: Serving) -> None:
    """Audio, events, steps and latencies of one session are counted, and it is closed again."""
    async with serving() as server:
        async with connect(server.ws_url) as client:
            await client.start(glossary={"terms": ["Eliquis", "warfarin"]})
            during = await scrape(server)
            await client.send(TWO_SEGMENTS)
            await client.send(STOP)
            await client.until_closed()
        await until(lambda: server.hub.sessions == 0)
        after = await scrape(server)
    assert value(during, "sessions_open", dialect="native") == 1
    assert value(during, "max_sessions") == 32
    assert value(after, "sessions_open", dialect="native") == 0
    assert value(after, "sessions_total", dialect="native") == 1
    assert value(after, "connections_ended_total", outcome="ok") == 1
    assert value(after, "audio_seconds_total") == pytest.approx(4.5)
    assert value(after, "events_total", type="final") == 2
    assert value(after, "final_latency_seconds_count") == 2
    assert value(after, "first_partial_latency_seconds_count") == 2
    assert value(after, "session_glossary_terms_sum") == 2
    kinds = [dict(labels)["kind"] for name, labels in after if name == "step_seconds_count"]
    assert set(kinds) <= {"final", "pause", "partial", "upload"}
    steps = sum(value(after, "step_seconds_count", kind=kind) for kind in kinds)
    assert value(after, "step_stage_seconds_count", stage="decode") == steps >= 2
    assert value(after, "session_lag_max_seconds") == 0
    assert value(after, "outbox_events") == 0


async def test_latencies_are_those_of_a_viewer(serving: Serving, engine: FakeEngine) -> None:
    """At the pace of speech the server's final latency is what the client measures."""
    engine.step_s = 0.1
    loop, seen_s = asyncio.get_running_loop(), list[float]()
    async with serving() as server, connect(server.ws_url) as client:
        await client.start()
        final = asyncio.create_task(client.wait_for("final"))
        final.add_done_callback(lambda _: seen_s.append(loop.time()))
        audio, begun_s = pcm(tone(1), silence(1)), loop.time()
        for at in range(0, len(audio), 3200):  # each as soon as it has been spoken
            await asyncio.sleep(max(0.0, begun_s + (at + 3200) / 32_000 - loop.time()))
            await client.send(audio[at : at + 3200])
            if at == 28_800:
                spoken_s = loop.time()
        await final
        samples = await scrape(server)
    assert value(samples, "final_latency_seconds_sum") == pytest.approx(
        seen_s[0] - spoken_s, abs=0.25
    )
    assert value(samples, "first_partial_latency_seconds_sum") >= 0.2


async def test_refusals_by_reason(serving: Serving) -> None:
    """Who gets no session is counted by the wire code, who leaves by himself as such."""
    async with serving(max_sessions=1) as server:
        async with connect(server.ws_url) as client:
            await client.start()
            async with connect(server.ws_url) as other:
                await other.send({"type": "start"})
                await other.until_closed()
        await until(lambda: server.hub.sessions == 0)
        async with connect(server.ws_url) as rude:
            await rude.send("{")
            await rude.until_closed()
        async with connect(server.ws_url):
            pass
        await until(lambda: server.hub.sessions == 0)
        samples = await scrape(server)
    for reason in ("full", "bad_json", "client_left"):
        assert value(samples, "sessions_refused_total", reason=reason) == 1
    assert value(samples, "connections_ended_total", outcome="client_left") == 1


async def test_failures_of_the_engine(serving: Serving, engine: FakeEngine) -> None:
    """A failed step is counted, and so is the error that the client is told."""

    def fail(request: StepRequest) -> None:
        raise ModelError("the model is ill")

    engine.hook = fail
    async with serving() as server, connect(server.ws_url) as client:
        await client.start()
        await client.send(pcm(tone(1)))
        await client.send(STOP)
        await client.until_closed()
        samples = await scrape(server)
    failures = value(samples, "step_failures_total")
    assert failures >= 1
    assert value(samples, "errors_total", code="model_failed") == failures


async def test_queues_are_measured(serving: Serving, engine: FakeEngine) -> None:
    """Steps at the engine, those that wait, and how far the slowest session is behind."""
    engine.step_s = 0.5
    async with serving(workers=1) as server:
        async with connect(server.ws_url) as one, connect(server.ws_url) as two:
            for client in (one, two):
                await client.start()
                await client.send(pcm(tone(2)))
            await until(lambda: engine.busy == 1)
            await asyncio.sleep(0.1)
            samples = await scrape(server)
    assert value(samples, "steps_running") == 1
    assert value(samples, "steps_waiting") == 1
    assert 1.5 < value(samples, "session_lag_max_seconds") <= 2.0


async def test_the_operators_glossaries_are_listed(serving: Serving, tmp_path: Path) -> None:
    """Each by its name with its size; what is served is told too."""
    path = tmp_path / "terms.txt"
    path.write_text("Eliquis\nwarfarin\napixaban\n", encoding="utf-8")
    async with serving(glossaries={"drugs": path}) as server:
        samples = await scrape(server)
    assert value(samples, "glossary_terms", glossary="drugs") == 3
    (info,) = [labels for name, labels in samples if name == "server_info"]
    assert dict(info)["speech_llm"] == "fake"


async def test_servers_of_one_process_count_apart(serving: Serving) -> None:
    """What one server counts does not show at another; memory is of the process."""
    async with serving() as one, serving() as other:
        async with connect(one.ws_url) as client:
            await client.start()
        there, elsewhere = await scrape(one), await scrape(other)
    assert value(there, "sessions_total", dialect="native") == 1
    assert ("sessions_total", frozenset({("dialect", "native")})) not in elsewhere
    assert value(elsewhere, "process_resident_memory_bytes") > 10_000_000


async def test_labels_hold_no_names_of_clients(serving: Serving) -> None:
    """Neither session ids nor glossaries nor terms of clients ever become labels."""
    async with serving() as server, connect(server.ws_url) as client:
        started = await client.start(glossary={"terms": ["Eliquis"]})
        await client.send({"type": "glossary.edit", "add": ["warfarin"]})
        await client.send({"type": "secret-type", "secret-key": 1})
        await client.send(TWO_SEGMENTS)
        await client.send(STOP)
        await client.until_closed()
        async with httpx.AsyncClient() as http:
            text = (await http.get(server.url + "metrics")).text
    assert "events_total" in text
    for private in (started["session_id"], "Eliquis", "warfarin", "secret", "w0"):
        assert private not in text


def test_dropped_events_are_counted() -> None:
    """A partial that a newer one replaces, and whatever overflows."""
    metrics = Metrics()
    outbox = Outbox(2, metrics.event_dropped)
    metrics.outboxes.add(outbox)
    for revision in (1, 2, 3):
        outbox.put(partial(1, revision))
    outbox.put("a")
    outbox.put("b")
    text = metrics.render()[0].decode()
    assert 'a2p_events_dropped_total{reason="superseded"} 2.0' in text
    assert 'a2p_events_dropped_total{reason="overflow"} 1.0' in text
    assert "a2p_outbox_events 2.0" in text and "a2p_outbox_events_max 2.0" in text


def test_openmetrics_on_demand() -> None:
    """A scraper that asks for it gets OpenMetrics, which its own parser takes."""
    body, content_type = Metrics().render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name for family in openmetrics.text_string_to_metric_families(body.decode())}
    assert {"a2p_final_latency_seconds", "a2p_partials_thinned"} <= families


def test_names_follow_the_conventions() -> None:
    """A prefix, base units, and nothing but words in between."""
    names = re.findall(r"^# TYPE (\S+)", Metrics().render()[0].decode(), re.M)
    own = [name for name in names if not name.startswith("process_")]
    assert len(own) > 15
    assert all(re.fullmatch(r"a2p_[a-z_]+", name) and "_ms" not in name for name in own)

"""Realtime's items and texts: turns by the server or the client, deltas that only ever add."""

from __future__ import annotations

import math
from typing import Any

import pytest

from a2p_engine.errors import GlossaryError
from streaming.commands import Discard, Flush
from streaming.errors import error_event
from streaming.events import Flushed, GlossaryUpdated, Stats
from tests.streaming.dialects.realtime_client import (
    COMMIT_EMPTY,
    LOGPROBS,
    Client,
    by_client,
    by_server,
    failure,
    final,
    kinds,
    partial,
    started,
    stopped,
)

# Turns that the server finds


def test_a_turn_from_its_first_sound_to_its_text() -> None:
    """In the reference's order, under one name, with what settles of the text on the way."""
    client = by_server()
    told = client.told(
        started(1, 0.5),
        partial(1, "", "We give"),
        partial(1, "We give", " him apix"),
        stopped(1, 2.0),
        final(1, "We give him apixaban.", duration_s=2.5),
    )
    assert kinds(told) == [
        "input_audio_buffer.speech_started",
        "delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "delta",
        "completed",
        "conversation.item.done",
    ]
    begun, first, ended, committed, added, rest, completed, done = told
    assert (begun["audio_start_ms"], ended["audio_end_ms"]) == (500, 2000)
    assert {event["item_id"] for event in (begun, first, ended, committed, rest, completed)} == {
        "item_t_1"
    }
    assert committed["previous_item_id"] is None
    assert (first["delta"], rest["delta"]) == ("We give", " him apixaban.")
    assert first["delta"] + rest["delta"] == completed["transcript"]
    assert completed["usage"] == {"type": "duration", "seconds": 2.5}
    assert completed["languages"] == [{"code": "en"}]
    assert "logprobs" not in completed and "logprobs" not in first
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert done["item"]["content"][0]["transcript"] == "We give him apixaban."


def test_every_event_has_a_name_of_its_own() -> None:
    """Also across sessions, by the random part."""
    client = by_server()
    told = client.greeting + client.told(started(1), stopped(1), final(1, "a"))
    names = [event["event_id"] for event in told]
    assert len(set(names)) == len(names) and all(name.startswith("event_t_") for name in names)


def test_items_know_the_one_before() -> None:
    """In the order in which they were committed."""
    client = by_server()
    for segment in (1, 2):
        told = client.told(started(segment), stopped(segment), final(segment, "a"))
        committed = told[kinds(told).index("input_audio_buffer.committed")]
        assert committed["previous_item_id"] == (None if segment == 1 else "item_t_1")


def test_a_turn_that_is_no_speech_leaves_no_item() -> None:
    """What begins and stops without a text was a noise; nobody waits for an item of it."""
    client = by_server()
    told = client.told(started(1), stopped(1), started(2), stopped(2), final(2, "Yes."))
    assert kinds(told) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "delta",
        "completed",
        "conversation.item.done",
    ]
    assert told[4]["item_id"] == told[2]["item_id"] == "item_t_2"


def test_a_committed_turn_is_completed_even_without_text() -> None:
    """It was shown, so it was promised; in the end there was nothing."""
    client = by_server()
    told = client.told(started(1), partial(1, "", "Uh"), stopped(1), final(1, ""))
    assert kinds(told)[-2:] == ["completed", "conversation.item.done"]
    assert told[-2]["transcript"] == ""


def test_hypotheses_that_settle_nothing_tell_nothing() -> None:
    """What may still change is not told; deltas can not be taken back."""
    client = by_server()
    assert client.told(partial(1, "", "one"), partial(1, "", "two")) == []


def test_what_was_told_stays() -> None:
    """Even when the text should contradict it: the transcript is the deltas in a row."""
    client = by_server()
    told = client.told(started(1), partial(1, "one two"), stopped(1), final(1, "three four"))
    deltas = [event["delta"] for event in told if event["type"].endswith("delta")]
    assert "".join(deltas) == told[-2]["transcript"] == "one two"


def test_logprobs_on_request() -> None:
    """Of the words in each delta, and of all words at the end."""
    client = by_server()
    (updated,) = client.send(
        {"type": "session.update", "session": {"type": "transcription", "include": [LOGPROBS]}}
    )
    assert updated["session"]["include"] == [LOGPROBS]
    told = client.told(partial(1, "We give", " him"), stopped(1), final(1, "We give him it."))
    deltas = [event for event in told if event["type"].endswith("delta")]
    tokens = [[entry["token"] for entry in event["logprobs"]] for event in deltas]
    assert tokens == [[" We", " give"], [" him", " it."]]
    completed = told[kinds(told).index("completed")]
    first = completed["logprobs"][0]
    assert first == {"token": " We", "bytes": [32, 87, 101], "logprob": round(math.log(0.9), 4)}
    assert len(completed["logprobs"]) == 4


def test_a_commit_ends_the_turn() -> None:
    """As when a client's audio stops in the middle of a word; the item comes when it has ended."""
    client = by_server()
    client.told(started(1))
    assert client.commit() == [] and client.commands == [Flush()]
    told = client.told(stopped(1), final(1, "Yes."), Flushed())
    assert kinds(told)[1:3] == ["input_audio_buffer.committed", "conversation.item.added"]
    assert "error" not in kinds(told)


def test_a_commit_without_speech_is_of_an_empty_buffer() -> None:
    """Told under the client's name for it, once the session has looked."""
    client = by_server()
    assert client.commit(event_id="mine") == []
    (told,) = client.told(Flushed())
    assert told["error"]["type"] == "invalid_request_error"
    assert told["error"]["code"] == COMMIT_EMPTY
    assert told["error"]["event_id"] == "mine"


def test_a_commit_of_a_turn_that_has_ended_meanwhile_is_none_of_an_empty_buffer() -> None:
    """The client could not know."""
    client = by_server()
    client.told(started(1), stopped(1))
    client.commit()
    assert "error" not in kinds(client.told(final(1, "Yes."), Flushed()))


@pytest.mark.parametrize("audio_s", [0, 0.09])
@pytest.mark.parametrize("make", [by_server, by_client])
def test_a_commit_of_no_audio_is_refused_at_once(make: Any, audio_s: float) -> None:
    """Less than a tenth of a second counts as none, as in the reference."""
    client = make()
    client.commit()
    if audio_s:
        client.append(audio_s)
    error = client.trouble({"type": "input_audio_buffer.commit", "event_id": "mine"})
    assert (error["code"], error["event_id"]) == (COMMIT_EMPTY, "mine")
    assert f"{audio_s * 1000:.0f} ms" in error["message"]
    client.append(0.1)
    client.commit()
    assert client.commands == [Flush()]


def test_a_commit_before_any_audio_is_refused() -> None:
    """And begins no session."""
    assert Client().trouble({"type": "input_audio_buffer.commit"})["code"] == COMMIT_EMPTY


def test_a_clear_takes_the_open_turn_back() -> None:
    """No item comes of it; the one after it is told as ever."""
    client = by_server()
    client.told(started(1), partial(1, "We give"))
    assert kinds(client.clear()) == ["input_audio_buffer.cleared"]
    assert client.commands == [Discard(ended=False), Flush()]
    told = client.told(stopped(1), final(1, ""), Flushed())
    assert kinds(told) == ["input_audio_buffer.speech_stopped"]
    told = client.told(started(2), partial(2, "", "Yes"), stopped(2), final(2, "Yes."))
    assert kinds(told)[-2:] == ["completed", "conversation.item.done"]


def test_a_clear_leaves_earlier_turns_alone() -> None:
    """They have ended; their text comes, though only the final tells that it was spared."""
    client = by_server()
    client.told(started(1), partial(1, "", "Yes"))
    client.clear()
    told = client.told(stopped(1), final(1, "Yes."), Flushed())
    assert kinds(told) == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "delta",
        "completed",
        "conversation.item.done",
    ]


def test_a_clear_before_any_audio() -> None:
    """Is answered, and means nothing."""
    client = Client()
    assert kinds(client.clear()) == ["input_audio_buffer.cleared"]
    assert client.commands == []


def test_a_failed_turn() -> None:
    """Told under its item; what there is of a text is completed, as deltas may have told it."""
    client = by_server()
    told = client.told(
        started(1), partial(1, "We give", " him"), failure(1), stopped(1), final(1, "We give him")
    )
    failed = told[kinds(told).index("failed")]
    assert failed["item_id"] == "item_t_1"
    assert failed["error"]["type"] == "server_error"
    assert failed["error"]["code"] == "model_failed"
    assert told[-2]["transcript"] == "We give him"


def test_other_errors_are_told_as_errors() -> None:
    """With who has to do something about it."""
    client = by_server()
    (told,) = client.told(error_event(GlossaryError("cannot be loaded"), fatal=False))
    assert told["error"]["type"] == "invalid_request_error"
    assert (told["error"]["code"], told["error"]["message"]) == ("bad_glossary", "cannot be loaded")
    (told,) = client.told(failure(None))
    assert told["error"]["type"] == "server_error"


def test_events_without_a_word_for_them() -> None:
    """Are not told."""
    edited = GlossaryUpdated(version=2, terms=1, added=1, removed=0, audio_time_sample=0)
    client = by_server()
    assert client.told(edited, Stats(audio_samples=1, lag_samples=0)) == []
    assert Client().told(Flushed(), final(1, "x")) == []


def test_speech_that_comes_to_nothing_is_forgotten() -> None:
    """A noisy line may make turns without text for hours."""
    client = by_server()
    for segment in range(1, 500):
        client.told(started(segment), stopped(segment))
    assert len(client.dialect._turns._items) <= 64  # type: ignore[union-attr]
    assert kinds(client.told(final(499, "Yes.")))[-2] == "completed"


# Turns that the client commits


def test_an_item_of_the_client_is_what_was_said_before_its_commit() -> None:
    """Deltas come while it is spoken; the whole text comes after the commit."""
    client = by_client()
    told = client.told(
        started(1), partial(1, "We give", " him"), stopped(1), final(1, "We give him")
    )
    assert kinds(told) == ["delta", "delta"]
    client.append(1.0)
    assert kinds(client.commit()) == ["input_audio_buffer.committed", "conversation.item.added"]
    assert client.commands == [Flush()]
    completed, done = client.told(Flushed())
    assert (completed["item_id"], completed["transcript"]) == ("item_t_1", "We give him")
    assert completed["usage"] == {"type": "duration", "seconds": 2.0}
    assert done["item"]["id"] == "item_t_1"


def test_segments_of_an_item_are_joined() -> None:
    """With a space, in the deltas as in the transcript."""
    client = by_client()
    told = client.told(
        partial(1, "One", " two"),
        final(1, "One two."),
        partial(2, "Three"),
        final(2, "Three four."),
    )
    client.commit()
    told += client.told(Flushed())
    deltas = [event["delta"] for event in told if event["type"].endswith("delta")]
    assert deltas == ["One", " two.", " Three", " four."]
    assert told[-2]["transcript"] == "One two. Three four."


def test_what_is_said_after_a_commit_belongs_to_the_next_item() -> None:
    """Whenever its text comes; commits may overtake texts."""
    client = by_client()
    (first, _) = client.commit()
    client.append()
    (second, added) = client.commit()
    assert (first["item_id"], second["item_id"]) == ("item_t_1", "item_t_2")
    assert second["previous_item_id"] == added["previous_item_id"] == "item_t_1"
    told = client.told(final(1, "One."), Flushed(), final(2, "Two."), Flushed())
    texts = {event["item_id"]: event["transcript"] for event in told if "transcript" in event}
    assert texts == {"item_t_1": "One.", "item_t_2": "Two."}


def test_a_commit_of_silence_has_an_empty_text() -> None:
    """The client asked for an item, so there is one."""
    client = by_client()
    client.commit()
    assert client.told(Flushed())[0]["transcript"] == ""


def test_a_clear_drops_the_open_item_alone() -> None:
    """Committed ones keep their text, what was told of the dropped one is not completed."""
    client = by_client()
    client.commit()
    client.append()
    assert kinds(client.clear()) == ["input_audio_buffer.cleared"]
    assert client.commands == [Discard(), Flush()]
    client.append()
    client.commit()
    told = client.told(
        final(1, "One."), Flushed(), partial(2, "Two"), final(2, ""), Flushed(), final(3, "Three.")
    )
    told += client.told(Flushed())
    texts = {event["item_id"]: event["transcript"] for event in told if "transcript" in event}
    assert texts == {"item_t_1": "One.", "item_t_3": "Three."}
    assert "item_t_2" not in {event.get("item_id") for event in told}


def test_a_failed_part_of_an_item() -> None:
    """Told at once; the rest of the item is completed at its commit."""
    client = by_client()
    told = client.told(final(1, "One."), failure(2), final(3, "Three."))
    assert kinds(told) == ["delta", "failed", "delta"]
    client.commit()
    assert client.told(Flushed())[0]["transcript"] == "One. Three."

"""Captions by an OpenAI-compatible server, a real one with Whisper base behind it."""

from __future__ import annotations

import itertools

import pytest

from a2p_engine.speech_llm.base import Hypothesis
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.text import plain
from a2p_engine.types import Samples
from tests.a2p_engine.speech_llm.openai_peer import Peer, ask, speech_llm

FRAME = 640  # the audio of the server is rounded to 16 bits, which can shift times a little
BOTH = pytest.mark.parametrize("interface", ["chat", "transcriptions"])


def text(hypothesis: Hypothesis) -> str:
    """As a session shows it."""
    return "".join(word.text for word in hypothesis.words).strip()


@BOTH
def test_the_text_is_that_of_the_model_behind_the_server(
    peer: Peer, audio: Samples, interface: str
) -> None:
    """With and without terms; the prompt that was told is reported."""
    local = WhisperSpeechLLM("whisper-base", peer.encoder)
    remote = speech_llm(peer, interface=interface)
    for terms in ([], ["metformin", "apixaban"]):
        request = ask(peer, audio, terms)
        here, there = local.decode(request), remote.decode(request)
        assert text(there) == text(here) != ""
        assert there.prompt.terms == tuple(terms)
        assert there.language == "en"


def test_word_times_and_certainty_come_from_the_server_where_it_tells(
    peer: Peer, audio: Samples
) -> None:
    """Transcriptions tell times of words, chat tells probabilities; the rest is an estimate."""
    here = WhisperSpeechLLM("whisper-base", peer.encoder).decode(ask(peer, audio)).words
    timed = speech_llm(peer).decode(ask(peer, audio))
    assert not timed.estimated_times
    for one, other in zip(here, timed.words, strict=True):
        assert one.text.strip() == other.text.strip()
        assert other.start_sample == pytest.approx(one.start_sample, abs=FRAME)
        assert other.end_sample == pytest.approx(one.end_sample, abs=FRAME)
    sure = speech_llm(peer, interface="chat").decode(ask(peer, audio))
    assert sure.estimated_times
    assert [word.probability for word in sure.words] == pytest.approx(
        [word.probability for word in here], abs=0.05
    )
    assert all(word.probability < 1 for word in sure.words)
    starts = [word.start_sample for word in sure.words]
    assert 0 <= starts[0] < sure.words[-1].end_sample <= len(audio)
    assert all(one < two for one, two in itertools.pairwise(starts))


@BOTH
def test_the_text_goes_on_from_committed_text(peer: Peer, audio: Samples, interface: str) -> None:
    """Whether the server was told how its answer begins or not, even where it heard otherwise."""
    whole = text(speech_llm(peer, interface=interface).decode(ask(peer, audio)))
    half = " ".join(whole.split()[:4])
    for committed in (half, half.replace(whole.split()[1], "wrong", 1)):
        found = speech_llm(peer, interface=interface).decode(ask(peer, audio, committed=committed))
        assert text(found).startswith(committed)
        assert plain(text(found)).split()[-3:] == plain(whole).split()[-3:]
        assert len(text(found).split()) == pytest.approx(len(whole.split()), abs=1)
    begun = [request["messages"][-1] for request in peer.requests if "messages" in request]
    assert [each["content"] for each in begun if each["role"] == "assistant"] == (
        [half, committed] if interface == "chat" else []
    )


def test_what_a_server_does_not_know_is_left_out_from_then_on(
    peer: Peer, audio: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    """Three requests the first time, one the next; its refusals, which quote, are not logged."""
    peer.refused = ("continue_final_message", "logprobs")
    chat = speech_llm(peer, interface="chat")
    whole = text(chat.decode(ask(peer, audio)))
    committed = " ".join(whole.split()[:3])
    assert text(chat.decode(ask(peer, audio, committed=committed))) == whole
    before = len(peer.requests)
    assert text(chat.decode(ask(peer, audio, committed=committed))) == whole
    assert len(peer.requests) - before == 1
    assert "continue_final_message" in caplog.text
    assert "patient" not in caplog.text


@pytest.mark.parametrize(
    ("refused", "estimated"),
    [(("timestamp_granularities",), False), (("verbose_json",), True)],
)
def test_transcriptions_without_times_are_taken_too(
    peer: Peer, audio: Samples, refused: tuple[str, ...], estimated: bool
) -> None:
    """Segments alone bound the words' times; without those the text is streamed."""
    whole = text(speech_llm(peer).decode(ask(peer, audio)))
    peer.refused = refused
    found = speech_llm(peer).decode(ask(peer, audio))
    assert text(found) == whole
    assert found.estimated_times == estimated
    assert ("stream" in peer.requests[-1]) == estimated
    if not estimated:
        assert 0 < found.words[0].probability < 1


def test_the_answer_of_qwen3_asr_loses_its_beginning(peer: Peer, audio: Samples) -> None:
    """Whether the model begins it ("language English<asr_text>") or the request does."""
    whole = text(speech_llm(peer, interface="chat").decode(ask(peer, audio)))
    peer.prefix = "language English<asr_text>"
    settings = {"interface": "chat", "template": "qwen3-asr"}
    for continues in (True, False):
        found = speech_llm(peer, continues=continues, **settings).decode(ask(peer, audio))
        assert text(found) == whole
        assert len(found.words) == len(whole.split())
    told = speech_llm(peer, **settings).decode(ask(peer, audio, ["metformin"], committed="Good"))
    assert text(told).startswith("Good")
    assert peer.requests[-1]["messages"][-1]["content"] == "language English<asr_text>Good"


def test_the_language_is_found_out_here(peer: Peer, audio: Samples) -> None:
    """``auto`` is not left to the server, which may know no such thing."""
    assert speech_llm(peer).decode(ask(peer, audio, language="auto")).language == "en"
    assert peer.requests[-1]["language"] == ["en"]


def test_too_little_audio_is_not_sent(peer: Peer, audio: Samples) -> None:
    """The caption is what was committed."""
    found = speech_llm(peer).decode(ask(peer, audio[:1000], committed="Good morning"))
    assert text(found) == "Good morning"
    assert peer.requests == []


def test_terms_beyond_the_budget_are_counted(peer: Peer, audio: Samples) -> None:
    """They are told by probability, as many as there is room for."""
    terms = [f"levetiracetam{number}" for number in range(100)]
    prompt = speech_llm(peer, prompt_tokens=40).decode(ask(peer, audio, terms)).prompt
    assert 0 < len(prompt.terms) < 10
    assert prompt.trimmed == 100 - len(prompt.terms)


def test_a_translation_has_a_path_of_its_own(peer: Peer, audio: Samples) -> None:
    """Whisper writes English."""
    found = speech_llm(peer).decode(ask(peer, audio, task="translate"))
    assert text(found) == text(speech_llm(peer).decode(ask(peer, audio)))


@pytest.mark.parametrize(
    ("interface", "told"),
    [("chat", "infarto: heart attack."), ("transcriptions", "Glossary: heart attack.")],
)
def test_pairs_are_for_models_that_take_orders(
    peer: Peer, audio: Samples, interface: str, told: str
) -> None:
    """Whisper's prompt is text before, in English: a Spanish word there would do harm."""
    request = ask(peer, audio, ["heart attack"], sources=["infarto"], task="translate")
    prompt = speech_llm(peer, interface=interface).decode(request).prompt
    assert prompt.text.endswith(told)
    assert ("infarto" in str(peer.requests[-1])) == (interface == "chat")


def test_the_retriever_gets_what_is_whispers(peer: Peer) -> None:
    """Tokens and embeddings are those of the model whose encoder it hears with."""
    local = WhisperSpeechLLM("whisper-base", peer.encoder)
    remote = speech_llm(peer, model="Qwen3-ASR-1.7B")
    assert remote.tokenize(["apixaban"]) == local.tokenize(["apixaban"])
    assert remote.token_embeddings().shape == local.token_embeddings().shape
    assert remote.retriever_weights == "whisper-base-en"
    assert remote.target_languages == ()  # Qwen3-ASR takes no orders
    assert "zh" in speech_llm(peer, model="Qwen/Qwen2-Audio-7B-Instruct").target_languages
    assert "mk" in remote.languages
    assert "la" not in remote.languages

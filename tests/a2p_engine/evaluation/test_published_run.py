"""The published evaluation on small sets: Chinese on random weights, English on Whisper base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from a2p_engine import speech_llm as speech_llms
from a2p_engine.audio import read_audio
from a2p_engine.encoders import Device, Encoder
from a2p_engine.encoders.qwen2_audio import Qwen2AudioEncoder
from a2p_engine.errors import InputError, ModelError
from a2p_engine.evaluation import published_request, published_run
from a2p_engine.evaluation.published_request import Request
from a2p_engine.published.config import read_config
from a2p_engine.published.data import Moved
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.speech_llm import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.qwen2_audio import Qwen2AudioSpeechLLM
from tests.a2p_engine.published.sets import write_json, write_tar
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
SHAPE = {
    "n_embed": 32,
    "retriever_n_head": 4,
    "attn_pdrop": 0.1,
    "retriever_merge_type": "add",
    "retriever_audio_word_fc": False,
}
BANK = {
    "zh": ["阿哌沙班", "华法林", "心电图", "拿铁"],
    "en": ["apixaban", "warfarin", "electrocardiogram", "latte"],
}


@pytest.fixture(scope="module", autouse=True)
def tiny_speech_llm() -> Any:
    """A Qwen2-Audio of a few thousand random numbers under the name of the published one."""
    made = tiny.tokenizer()
    model = tiny.qwen2_audio(made)
    encoder = Qwen2AudioEncoder(
        model.model.audio_tower, model.model.multi_modal_projector, name="tiny"
    )
    loaded = encoder, Qwen2AudioSpeechLLM(model, made, encoder, name="tiny")

    def load(name: str, device: Device, workers: int) -> tuple[Encoder, Any]:
        return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(speech_llms.SPEECH_LLMS, "qwen2-audio", load)
        yield loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two utterances in Chinese, one in an archive, a term bank and a published checkpoint."""
    speech = read_audio(RECORDING)
    soundfile.write(tmp_path / "a.wav", speech[:24_000], 16_000)
    soundfile.write(tmp_path / "b.wav", speech[40_000:70_000], 16_000)
    write_tar(tmp_path / "b.tar", {"b.wav": (tmp_path / "b.wav").read_bytes()})
    entries = [
        {
            "id": "a", "wav_path": "/pathtodata/a.wav", "zh": "服用阿哌沙班", "en": "take apixaban",
            "hints": [{"zh": "阿哌沙班", "en": "apixaban"}],
        },
        {
            "id": "b", "tar_path": "/pathtodata/b.tar", "tar_info": "b.wav", "zh": "做心电图和造影",
            "en": "an electrocardiogram and angiography",
            "hints": [
                {"zh": "心电图", "en": "electrocardiogram"}, {"zh": "造影", "en": "angiography"},
            ],
        },
    ]  # fmt: skip
    write_json(tmp_path / "test.json", entries)
    write_json(tmp_path / "bank.json", BANK)
    torch.manual_seed(4)
    head = AttentionRetriever(AttentionConfig(width=32, heads=4, fc=False))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    state = {name: value.bfloat16() for name, value in head.state_dict().items()}
    torch.save({"model": state, "best_dev_loss": 1.0}, tmp_path / "zh_retriever")
    return tmp_path


def _config(folder: Path, **changes: Any) -> Any:
    values = {
        **SHAPE,
        "test_files": "/pathtodata/test.json",
        "term_bank_path": "/pathtodata/bank.json",
        "retriever_path": "/pathtodata/zh_retriever",
        "llm_type": "qwen2-audio",
        "infer_task": "asr",
        "audio_lang": "zh",
        "tgt_lang": "en",
        "topk": 2,
        "num_workers": 0,
    }
    kept = {key: value for key, value in (values | changes).items() if value is not None}
    return read_config(write_json(folder / "config.json", kept))


def _request(folder: Path, config: Any, **changes: Any) -> Request:
    moved = [Moved("/pathtodata", str(folder))]
    return Request(config=config, moved=moved, device="cpu", **changes)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[DecodeRequest]:
    """What the tiny speech LLM is asked to do; it does it."""
    requests: list[DecodeRequest] = []
    decode = Qwen2AudioSpeechLLM.decode

    def recorded(self: Qwen2AudioSpeechLLM, request: DecodeRequest) -> Hypothesis:
        requests.append(request)
        return decode(self, request)

    monkeypatch.setattr(Qwen2AudioSpeechLLM, "decode", recorded)
    return requests


def test_chinese_needs_the_a2p_head_alone(folder: Path, told: list[DecodeRequest]) -> None:
    """Set, bank and checkpoint as published; terms are counted, missing ones too."""
    dump = folder / "dump.jsonl"
    prompts = published_request.parse_prompts("none,retrieved,said")
    request = _request(folder, _config(folder), prompts=prompts, dump=dump)
    done: list[int] = []
    report = published_run.load(request).run(lambda: done.append(1))
    assert len(done) == 2
    said = report.settings
    assert (said["utterances"], said["terms_said"], said["terms_not_in_bank"]) == (2, 3, 1)
    assert said["unused_keys"] == ["num_workers"]
    assert said["padded_frames"]

    first, second = (json.loads(line) for line in dump.read_text().splitlines())
    assert set(first["search"]["found"]) == set(BANK["zh"])  # no depth leaves a term of four out
    assert second["search"]["said"] == ["心电图", "造影"]
    assert [text["reference"] for text in second["texts"].values()] == ["做心电图和造影"] * 3
    asked = [(request.task, request.language, list(request.terms)) for request in told]
    retrieved = [one["search"]["found"][:2] for one in (first, second)]
    assert asked == [
        ("transcribe", "zh", terms)
        for terms in ([], retrieved[0], ["阿哌沙班"], [], retrieved[1], ["心电图", "造影"])
    ]
    deepest = report.retrieval[-1]
    assert deepest.published == pytest.approx((1 + 1 / 2) / 2)
    assert deepest.recall.value == pytest.approx(2 / 3)
    at_two = next(one for one in report.retrieval if one.depth == 2)
    hits = [
        {"阿哌沙班"} & set(first["search"]["found"][:2]),
        {"心电图"} & set(second["search"]["found"][:2]),
    ]
    assert at_two.published == pytest.approx((len(hits[0]) + len(hits[1]) / 2) / 2)
    assert [one.prompt for one in report.writing] == ["none", "retrieved", "said"]
    assert all(one.errors is not None and one.error_rate for one in report.writing)
    json.dumps(report.json())


def test_ranks_are_those_of_the_dense_head_on_padded_frames(
    folder: Path, tiny_speech_llm: Any
) -> None:
    """As the published code computes them, silence behind the audio included."""
    encoder, model = tiny_speech_llm
    dump = folder / "dump.jsonl"
    config = _config(folder)
    published_run.load(_request(folder, config, prompts=(), dump=dump)).run()
    checkpoint = torch.load(folder / "zh_retriever")["model"]
    head = AttentionRetriever(config.head).eval()
    head.load_state_dict({name: value.float() for name, value in checkpoint.items()})
    ids = model.tokenize(BANK["zh"])
    length = max(map(len, ids))
    padded = torch.tensor([row + [0] * (length - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])
    table = torch.from_numpy(model.token_embeddings())
    for line, name in zip(dump.read_text().splitlines(), ("a.wav", "b.wav"), strict=True):
        frames = torch.from_numpy(encoder.padded_frames(read_audio(folder / name)))
        with torch.no_grad():
            scores = head(table, padded, mask, frames[None], torch.ones(1, len(frames)))[0, :, 1]
        expected = [BANK["zh"][at] for at in scores.argsort(descending=True).tolist()]
        assert json.loads(line)["search"]["found"] == expected


def test_translations_are_told_target_terms(folder: Path, told: list[DecodeRequest]) -> None:
    """And measured in the target language, by BLEU and chrF."""
    request = _request(
        folder, _config(folder, infer_task="st"), prompts=("retrieved",), dump=folder / "d"
    )
    report = published_run.load(request).run()
    (found,) = report.writing
    assert found.corpus_bleu is not None and found.chrf is not None
    assert found.sentence_bleu is not None and found.errors is None
    text = json.loads((folder / "d").read_text().splitlines()[1])["texts"]["retrieved"]
    assert text["reference"] == "an electrocardiogram and angiography"
    assert text["terms"] == ["electrocardiogram", "angiography"]
    first = json.loads((folder / "d").read_text().splitlines()[0])["search"]["found"][:2]
    assert (told[0].task, told[0].language, told[0].target_language) == ("translate", "zh", "en")
    assert list(told[0].terms) == [BANK["en"][BANK["zh"].index(term)] for term in first]


def test_a_long_recording_is_heard_in_pieces(folder: Path, told: list[DecodeRequest]) -> None:
    """No window is longer than the model takes, and nothing of it is lost."""
    long = np.concatenate([read_audio(folder / "a.wav"), read_audio(folder / "b.wav")] * 3)
    soundfile.write(folder / "a.wav", long, 16_000)  # ten seconds; the model takes four
    request = _request(folder, _config(folder), limit=1, prompts=("none",))
    report = published_run.load(request).run()
    assert report.settings["utterances"] == 1
    pieces = [len(request.samples) for request in told]
    assert max(pieces) <= 4 * 16_000
    assert sum(pieces) == len(long)


def test_files_given_win_over_the_configuration(folder: Path) -> None:
    """Which then need not name any."""
    gone = dict.fromkeys(("test_files", "term_bank_path", "retriever_path", "llm_type"))
    config = _config(folder, **gone)
    names = {"data": "test.json", "bank": "bank.json", "retriever": "zh_retriever"}
    given = {key: folder / name for key, name in names.items()}
    request = _request(folder, config, speech_llm="qwen2-audio", prompts=(), **given)
    assert published_run.load(request).run().settings["utterances"] == 2
    for key, message in (
        ("data", r"config\.json has no test_files; give --data"),
        ("bank", r"config\.json has no term_bank_path; give --terms"),
        ("speech_llm", r"config\.json: no speech LLM of ours is meant: --speech-llm"),
        ("retriever", "no retriever is shipped for tiny and 'zh': --retriever"),
    ):
        lacking = {"speech_llm": "qwen2-audio", **given} | {key: None}
        with pytest.raises((InputError, ModelError), match=message):
            published_run.load(_request(folder, config, **lacking))


def test_a_missing_checkpoint_is_named(folder: Path) -> None:
    """Nothing else is taken in its place."""
    config = _config(folder, retriever_path="/pathtodata/none")
    with pytest.raises(ModelError, match=r"config\.json: there is no .*none; give --retriever"):
        published_run.load(_request(folder, config))


def test_a_language_that_the_model_lacks_is_named(folder: Path) -> None:
    """Whisper understands Chinese and translates into English alone."""
    config = _config(folder, infer_task="st", audio_lang="en", tgt_lang="zh")
    with pytest.raises(InputError, match="whisper-base does not translate into 'zh'"):
        published_run.load(_request(folder, config, speech_llm="whisper-base"))


def test_unknown_prompts_are_named() -> None:
    """With those that are known."""
    with pytest.raises(InputError, match="'oracle'; accepted are none, retrieved, said"):
        published_request.parse_prompts("none,oracle")
    assert published_request.parse_prompts("") == ()


def test_english_on_whisper_base(tmp_path: Path) -> None:
    """The shipped retriever and real captions: terms that are told are written."""
    soundfile.write(tmp_path / "a.wav", read_audio(RECORDING)[: 8 * 16_000], 16_000)
    hints = [{"en": "warfarin", "zh": "华法林"}, {"en": "apixaban", "zh": "阿哌沙班"}]
    entry = {
        "id": 1,
        "wav_path": "a.wav",
        "en": "Good morning, bed four came in with a racing heart, so we switched her from "
        "warfarin to apixaban.",
        "hints": hints,
    }
    bank = {"en": BANK["en"] + [f"voussoir {n}" for n in range(200)]}
    config = _config(tmp_path, audio_lang="en", topk=2)
    request = Request(
        config=config,
        data=write_json(tmp_path / "set.json", [entry]),
        bank=write_json(tmp_path / "bank.json", bank),
        speech_llm="whisper-base",
        device="cpu",
        prompts=("none", "said"),
    )
    report = published_run.load(request).run()
    by_depth = {one.depth: one.published for one in report.retrieval}
    assert by_depth[50] == 1.0
    assert not report.settings["padded_frames"]
    untold, told = report.writing
    assert (untold.term_accuracy, told.term_accuracy) == (0.0, 1.0)
    assert told.errors is not None and untold.errors is not None
    assert told.errors.value < untold.errors.value  # type: ignore[operator]

"""Terms that the data list: words or phrases of them, negatives of each other, learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.attention import AttentionConfig
from a2p_engine.training import listed_terms
from a2p_engine.training.config import CurriculumConfig, load_config
from a2p_engine.training.data import FrameData
from a2p_engine.training.retrieval_task import RetrievalTask
from a2p_engine.training.shards import Utterance, read_shards, write_shard

RNG = np.random.default_rng(0)
WIDTH = 16


def _utterance(text: str, *terms: str, seeds: bool = True) -> Utterance:
    return Utterance(
        id=text,
        text=text,
        phonemes="",
        voice="",
        seed=0,
        start=0,
        frames=1,
        terms=terms,
        seeds=seeds,
    )


def test_words_stay_words() -> None:
    """At the first stage, repeats included."""
    said = _utterance("the old harbour was closed", "harbour", "closed", "harbour")
    assert listed_terms.terms_of(said, "word", RNG) == ["harbour", "closed", "harbour"]


def test_phrases_begin_with_the_words_and_have_two_to_four() -> None:
    """Shorter only where the text ends; all lengths come up."""
    text = "in the old harbour of the town the lights went out"
    said = _utterance(text, "harbour", "went")
    drawn = [listed_terms.terms_of(said, "phrase", RNG) for _ in range(60)]
    assert {first for first, _ in drawn} == {
        "harbour of", "harbour of the", "harbour of the town",
    }  # fmt: skip
    assert {second for _, second in drawn} == {"went out"}


@pytest.mark.parametrize(
    "said",
    [
        _utterance("a lone word stays", "lone"),
        _utterance("pairs are terms already", "pairs", "terms", seeds=False),
        _utterance("今天天气很好", "天气", "今天"),
    ],
)
def test_what_stays_as_it_is_listed(said: Utterance) -> None:
    """A lone word, a term that is whole already, and what is no word of the text."""
    assert listed_terms.terms_of(said, "phrase", RNG) == list(said.terms)


def test_utterances_are_each_others_negatives() -> None:
    """Each is said to hold its own listed terms and no other, in an order drawn by the seed."""
    batch = [_utterance("a b", "a", "b"), _utterance("b c d", "b", "c"), _utterance("e")]
    terms, said = listed_terms.draw(batch, level="word", limit=100, seed=1)
    assert sorted(terms) == ["a", "b", "c"]
    own = [{term for term, is_said in zip(terms, row, strict=True) if is_said} for row in said]
    assert own == [{"a", "b"}, {"b", "c"}, set()]
    orders = {tuple(listed_terms.draw(batch, level="word", limit=9, seed=s)[0]) for s in range(20)}
    assert len(orders) > 1
    assert listed_terms.draw(batch, level="word", limit=100, seed=1)[0] == terms


def test_a_batch_asks_about_so_many_terms_at_most() -> None:
    """Those left out are left out of the answers too."""
    batch = [_utterance("t", *(f"t{n}" for n in range(30)))]
    terms, said = listed_terms.draw(batch, level="word", limit=7, seed=0)
    assert len(set(terms)) == 7
    assert said.shape == (1, 7) and said.all()


def test_listed_terms_are_kept_with_the_frames(tmp_path: Path) -> None:
    """And shards made without them are still read."""
    said = replace(_utterance("latte now", "latte"), frames=2)
    write_shard(tmp_path / "one", [np.zeros((2, 4), np.float16)], [said])
    assert [u for _, lines in read_shards(tmp_path) for u in lines] == [said]
    index = tmp_path / "one.jsonl"
    index.write_text(index.read_text().replace(', "terms": ["latte"], "seeds": true', ""))
    old = next(iter(read_shards(tmp_path)))[1][0]
    assert (old.terms, old.seeds) == ((), False)


@pytest.fixture
def words(tmp_path: Path) -> FrameData:
    """Forty utterances of two words of ten, each word heard as its own embedding."""
    rng = np.random.default_rng(3)
    codes = _codes()
    frames, lines, start = [], [], 0
    for number in range(40):
        said = rng.choice(10, 2, replace=False)
        rows = np.repeat(codes[said], 4, axis=0) + rng.normal(0, 0.05, (8, WIDTH))
        frames.append(rows.astype(np.float16))
        names = [f"w{n}" for n in said]
        line = _utterance(" ".join(names), *names)
        lines.append(replace(line, id=str(number), start=start, frames=len(rows)))
        start += len(rows)
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data" / "shard", frames, lines)
    return FrameData([tmp_path / "data"])


def test_batches_can_be_bounded_by_their_utterances(words: FrameData) -> None:
    """As many in each, whatever their frames, and none is lost."""
    batches = words.batches(frames_per_batch=10_000, utterances_per_batch=7, epoch=0, seed=0)
    sizes = sorted(len(batch.utterances) for batch in batches)
    assert sizes == [5, 7, 7, 7, 7, 7]
    assert len(words.batches(frames_per_batch=10_000, epoch=0, seed=0)) == 1


def _codes() -> np.ndarray:
    return np.random.default_rng(9).normal(0, 1, (10, WIDTH))


@pytest.fixture
def task(words: FrameData, tmp_path: Path) -> RetrievalTask:
    """The A2P head on a vocabulary of the ten words."""
    tokenizer = Tokenizer(models.WordLevel({f"w{n}": n for n in range(10)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = torch.from_numpy(_codes().astype(np.float32))
    save_file({"weight": table}, tmp_path / "embedding.safetensors")
    torch.manual_seed(0)
    return RetrievalTask(
        AttentionConfig(width=WIDTH, heads=2, fc=False),
        CurriculumConfig(source="listed", level="word", positive_weight=1.0, label_smoothing=0.1),
        model=tmp_path,
        rare_words=[],
        data=words,
    )


def test_the_loss_is_the_smoothed_cross_entropy_over_two_classes(
    task: RetrievalTask, words: FrameData
) -> None:
    """That of torch on the dense head's two logits, mean over all utterances and terms."""
    batch = words.collate(range(5))
    terms, said = listed_terms.draw(batch.utterances, level="word", limit=100, seed=11)
    difference = task.term_logits(task.module, terms, batch)
    two = torch.stack([torch.zeros_like(difference), difference], dim=-1)
    expected = torch.nn.functional.cross_entropy(
        two.flatten(0, 1), torch.from_numpy(said).long().flatten(), label_smoothing=0.1
    )
    torch.testing.assert_close(task.loss(task.module, batch, 0.5, 11), expected)


def _recall(task: RetrievalTask, words: FrameData) -> float:
    """Share of the words said that are among the two likeliest of ten."""
    found = 0
    for number in range(len(words)):
        batch = words.collate([number])
        logits = task.term_logits(task.module, [f"w{n}" for n in range(10)], batch)[0]
        best = {f"w{n}" for n in logits.topk(2).indices.tolist()}
        found += len(best & set(batch.utterances[0].terms))
    return found / (2 * len(words))


def test_a_head_learns_from_listed_terms(task: RetrievalTask, words: FrameData) -> None:
    """The two words said become the likeliest two of ten, where chance gives a fifth of them."""
    assert _recall(task, words) < 0.5
    optimizer = torch.optim.AdamW(task.module.parameters(), lr=1e-2)
    for step in range(60):
        optimizer.zero_grad()
        task.loss(task.module, words.collate(range(40)), 0.5, step).backward()
        optimizer.step()
    assert _recall(task, words) > 0.9


def test_a_batch_without_listed_terms_teaches_nothing(
    task: RetrievalTask, words: FrameData
) -> None:
    """Its loss is zero and so are its gradients."""
    batch = words.collate([0, 1])
    silent = replace(batch, utterances=tuple(replace(u, terms=()) for u in batch.utterances))
    loss = task.loss(task.module, silent, 0.5, 1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(
        float(p.grad.abs().sum()) == 0 for p in task.module.parameters() if p.grad is not None
    )


def test_the_source_of_terms_is_checked(tmp_path: Path) -> None:
    """A configuration that names another is refused by the table's name."""
    path = tmp_path / "c.toml"
    path.write_text('head = "a2p"\n[optimisation]\nepochs = 1\n[curriculum]\nsource = "lists"\n')
    with pytest.raises(TrainingError, match=r"\[curriculum\]: source must be 'text' or 'listed'"):
        load_config(path)

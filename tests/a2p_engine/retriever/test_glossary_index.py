"""Glossary versions: edits, weights, spellings and switched-off terms, against the dense head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from a2p_engine.errors import GlossaryError
from a2p_engine.retriever import index_file
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever, MergeType
from a2p_engine.retriever.folded import fold
from a2p_engine.retriever.glossary_index import GlossaryIndex, Section
from a2p_engine.retriever.index_file import Vocabulary
from a2p_engine.retriever.spotter import PhoneIndex
from a2p_engine.retriever.term_scorer import Chunk, TermScorer
from a2p_engine.retriever.term_table import TermTable
from a2p_engine.retriever.token_table import TokenTable
from a2p_engine.types import Term

WIDTH, HEADS, VOCABULARY, FRAMES = 24, 3, 60, 23
WORDS = Vocabulary(speech_llm="toy", tokens=VOCABULARY, phonemes=("", "a", "b"))


def _tokens(text: str) -> list[int]:
    return [ord(char) % VOCABULARY for char in text]


def _module(merge: MergeType = "add", fc: bool = True) -> AttentionRetriever:
    torch.manual_seed(7)
    config = AttentionConfig(width=WIDTH, heads=HEADS, merge=merge, fc=fc)
    module = AttentionRetriever(config).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


EMBEDDINGS = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(3))
AUDIO = torch.randn(FRAMES, WIDTH, generator=torch.Generator().manual_seed(4))


def test_each_term_has_its_own_pronunciations() -> None:
    """Also those of later sections, and of terms that nobody can pronounce."""
    scored = _Scored()
    tokens = [[_tokens("x")]] * 3

    def section(readings: list[list[int]], owners: list[int], texts: str) -> Section:
        table = TermTable.of([Term(text=text) for text in texts])
        return Section.of(table, tokens[: len(texts)], PhoneIndex(readings, owners), scored.table)

    index = GlossaryIndex.of(section([[1], [1, 2], [2, 2, 1]], [0, 0, 2], "abc"))
    index = index.edit(add=section([[2]], [0], "d"))
    found = [index.pronunciations(number) for number in range(4)]
    assert [phones.lengths.tolist() for phones in found] == [[1, 2], [], [3], [1]]
    assert [phones.symbols.tolist() for phones in found] == [[1, 1, 2], [], [2, 2, 1], [2]]
    audible, silent = index.audible()
    assert ([term.text for term in audible], silent) == (["a", "c", "d"], ("b",))
    assert audible.audible() == (audible, ())


class _Scored:
    """A table and what one utterance does to it."""

    def __init__(self, merge: MergeType = "add", fc: bool = True) -> None:
        self.module = _module(merge, fc)
        head = fold(self.module)
        self.table = TokenTable(head, EMBEDDINGS)
        self.scorer = TermScorer(head, self.table)

    def section(self, terms: list[Term]) -> Section:
        tokens = [[_tokens(form) for form in (term.text, *term.sounds_like)] for term in terms]
        phones = PhoneIndex([[1, 2]] * len(terms), range(len(terms)))
        return Section.of(TermTable.of(terms), tokens, phones, self.table)

    def index(self, *texts: str) -> GlossaryIndex:
        return GlossaryIndex.of(self.section([Term(text=text) for text in texts]))

    def scores(self, index: GlossaryIndex) -> dict[str, float]:
        gain = self.scorer.hear([Chunk(self.scorer.start(), AUDIO, FRAMES)])
        scores = index.scores(gain)[0].tolist()
        return {term.text: scores[index.find(term.text) or 0] for term in index}


SCORED = _Scored()
TEXTS = [f"{a}{b}{c}" for a in "abc" for b in "defg" for c in ("", "hi", "klmno")]


@pytest.mark.parametrize(("merge", "fc"), [("add", True), ("add", False), ("fc", True)])
def test_scores_and_priors_make_the_dense_heads_probability(merge: MergeType, fc: bool) -> None:
    """The folded scorer over an index gives the dense head's log-probability."""
    scored = _Scored(merge, fc)
    index = scored.index(*TEXTS)
    gain = scored.scorer.hear([Chunk(scored.scorer.start(), AUDIO, FRAMES)])
    logits = index.scores(gain + scored.table.priors)[0]
    length = max(map(len, TEXTS))
    ids = torch.tensor([_tokens(text.ljust(length)) for text in TEXTS])
    mask = torch.tensor([[n < len(text) for n in range(length)] for text in TEXTS]).float()
    with torch.no_grad():
        dense = scored.module(EMBEDDINGS, ids, mask, AUDIO[None], torch.ones(1, FRAMES))
    folded = torch.nn.functional.logsigmoid(logits)
    torch.testing.assert_close(folded, dense[0, :, 1], atol=2e-5, rtol=0)


@given(
    added=st.lists(st.sampled_from([f"{x}q{y}" for x in "rst" for y in "uvw"]), unique=True),
    removed=st.lists(st.sampled_from(TEXTS), unique=True, max_size=30),
)
@settings(max_examples=25, deadline=None)
def test_adding_then_removing_restores_every_score(added: list[str], removed: list[str]) -> None:
    """An edit and its opposite leave the terms, their scores and the earlier version as before."""
    index = SCORED.index(*TEXTS)
    before = SCORED.scores(index)
    section = SCORED.section([Term(text=text) for text in added]) if added else None
    edited = index.edit(add=section, remove=removed)
    assert {term.text for term in edited} == set(TEXTS) - set(removed) | set(added)
    assert edited.size == len(TEXTS) - len(removed) + len(added)
    back = SCORED.section([Term(text=text) for text in removed]) if removed else None
    restored = edited.edit(add=back, remove=added)
    assert SCORED.scores(restored) == pytest.approx(before, abs=1e-5)
    assert SCORED.scores(index) == before


@given(order=st.permutations(TEXTS))
@settings(max_examples=15, deadline=None)
def test_permuting_terms_permutes_scores(order: list[str]) -> None:
    """A term's score does not depend on its place."""
    before = SCORED.scores(SCORED.index(*TEXTS))
    assert SCORED.scores(SCORED.index(*order)) == pytest.approx(before, abs=1e-5)


def test_a_weight_is_added_as_its_logarithm_and_a_disabled_term_is_silent() -> None:
    """Both are properties of the entry; a disabled term stays in the glossary."""
    plain = SCORED.scores(SCORED.index("abc", "abd", "abe"))
    terms = [Term(text="abc", weight=8.0), Term(text="abd", enabled=False), Term(text="abe")]
    index = GlossaryIndex.of(SCORED.section(terms))
    found = SCORED.scores(index)
    assert found["abc"] == pytest.approx(plain["abc"] + np.log(8.0), abs=1e-5)
    assert found["abd"] == -np.inf
    assert found["abe"] == pytest.approx(plain["abe"])
    assert [term.enabled for term in index] == [True, False, True]
    again = index.edit(add=SCORED.section([Term(text="abd")]))
    assert SCORED.scores(again)["abd"] == pytest.approx(plain["abd"])
    assert again.size == 3


def test_the_best_spelling_speaks_for_a_term() -> None:
    """A term with other spellings scores as the best of them, also after an edit."""
    plain = SCORED.scores(SCORED.index("abc", "xyz", "pqr", "klm"))
    terms = [Term(text="abc", sounds_like=("xyz", "pqr")), Term(text="klm")]
    index = GlossaryIndex.of(SCORED.section(terms))
    found = SCORED.scores(index)
    best = max(plain[text] for text in ("abc", "xyz", "pqr"))
    assert found == pytest.approx({"abc": best, "klm": plain["klm"]}, abs=1e-5)
    gone = index.edit(remove=["abc"])
    assert SCORED.scores(gone) == pytest.approx({"klm": plain["klm"]}, abs=1e-5)
    assert gone.find("abc") is None
    assert np.isneginf(gone.log_weights).tolist() == [True, False]


def test_scores_of_several_sections_fill_a_given_output() -> None:
    """Numbers of later sections follow those of earlier ones, other spellings or not."""
    index = SCORED.index("abc", "xyz").edit(
        add=SCORED.section([Term(text="pqr", sounds_like=("klm",)), Term(text="klm")])
    )
    gain = SCORED.scorer.hear([Chunk(SCORED.scorer.start(), AUDIO, FRAMES)]).repeat(2, 1)
    out = torch.full((2, index.numbers), torch.nan)
    assert index.scores(gain, out) is out
    torch.testing.assert_close(out, index.scores(gain))
    assert torch.equal(out[0], out[1]) and bool(out.isfinite().all())


def test_a_term_added_again_replaces_the_old_entry() -> None:
    """There is one term of a text, the newest."""
    index = SCORED.index("abc", "abd")
    edited = index.edit(add=SCORED.section([Term(text="abc", target="xyz")]))
    assert [(term.text, term.target) for term in edited] == [("abd", None), ("abc", "xyz")]
    assert edited[edited.find("abc") or 0].target == "xyz"


def test_terms_are_found_by_any_of_many_texts() -> None:
    """In every section, and under their present numbers only."""
    scored = _Scored()

    def section(*texts: str) -> Section:
        table = TermTable.of([Term(text=text) for text in texts])
        return Section.of(table, [[_tokens(t)] for t in texts], PhoneIndex((), ()), scored.table)

    index = GlossaryIndex.of(section("a", "b", "c")).edit(add=section("b", "dd"), remove=["a"])
    found = index.find_all(["dd", "a", "b", "x", "c", ""])
    assert found.tolist() == [2, 3, 4]
    assert index.texts(found) == ["c", "b", "dd"]
    assert index.find_all([]).tolist() == [] and index.texts(found[:0]) == []


def test_removing_everything_leaves_an_empty_glossary() -> None:
    """Nothing is offered, and terms can be added again."""
    empty = SCORED.index("abc").edit(remove=["abc", "never there"])
    assert empty.size == 0 and list(empty) == []
    assert SCORED.scores(empty) == {}
    assert [term.text for term in empty.edit(add=SCORED.section([Term(text="x")]))] == ["x"]


def test_sections_of_like_size_are_offered_for_joining() -> None:
    """The first section is left alone; small ones pile up only while they shrink by half."""
    index = SCORED.index(*TEXTS)
    assert index.tail() is None
    index = index.edit(add=SCORED.section([Term(text=t) for t in ("q", "qq")]))
    assert index.tail() is None
    index = index.edit(add=SCORED.section([Term(text="qqq")]))
    assert index.tail() is None
    grown = index.edit(add=SCORED.section([Term(text="qqqq")]))
    kept, terms = grown.tail() or (None, [])
    assert [term.text for term in terms] == ["qqq", "qqqq"]
    assert kept is not None and kept.size == len(TEXTS) + 2


def test_texts_whose_hashes_collide_are_told_apart() -> None:
    """CRC-32 maps these two to the same number."""
    table = TermTable.of([Term(text="plumless"), Term(text="buckeroo"), Term(text="other")])
    assert table.hashes[0] == table.hashes[1] or table.hashes[1] == table.hashes[2]
    assert [table.find(text) for text in ("plumless", "buckeroo", "other", "x")] == [0, 1, 2, None]


def test_an_index_file_brings_back_every_column(tmp_path: Path) -> None:
    """Terms, spellings, pronunciations and scores are those of the saved glossary."""
    terms = [
        Term(text="naïve", sounds_like=("ny eve",), target="naiv", weight=3.0),
        Term(text="日本"),
        Term(text="off", enabled=False),
    ]
    section = SCORED.section(terms)
    index_file.save(section, tmp_path / "g.safetensors", WORDS)
    loaded = index_file.load(tmp_path / "g.safetensors", SCORED.table, WORDS)
    assert list(loaded) == terms
    assert SCORED.scores(loaded) == SCORED.scores(GlossaryIndex.of(section))
    phones = loaded.sections[0][1].phones
    assert phones.layout.phones.tolist() == section.phones.layout.phones.tolist()
    assert loaded.edit(remove=["naïve"]).find("naïve") is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tokens", lambda column: column - 1000),
        ("tokens", lambda column: column + VOCABULARY),
        ("tokens.offsets", lambda column: column.flip(0)),
        ("spellings", lambda column: column.flip(0)),
        ("phonemes", lambda column: column + 7),
        ("phonemes.lengths", lambda column: column * 0),
        ("phonemes.term_of", lambda column: column + 5),
        ("terms.hashed", lambda column: column - 5),
        ("terms.texts.offsets", lambda column: column + 1),
        ("terms.enabled", lambda column: column[:1]),
    ],
)
def test_columns_that_do_not_fit_are_named(
    tmp_path: Path, name: str, damage: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """What would have compiled loops read beyond an array is refused."""
    path = tmp_path / "g.safetensors"
    section = SCORED.section([Term(text="abc", sounds_like=("xyz",)), Term(text="de")])
    index_file.save(section, path, WORDS)
    columns = load_file(path)
    assert name in columns
    damaged = {key: column.clone() for key, column in columns.items()}
    damaged[name] = damage(damaged[name]).contiguous()
    save_file(damaged, path, {"vocabulary": WORDS.as_json()})
    with pytest.raises(GlossaryError, match=name):
        index_file.load(path, SCORED.table, WORDS)


def test_an_index_file_for_something_else_is_refused(tmp_path: Path) -> None:
    """The message says what it is for, or that it is no index."""
    path = tmp_path / "g.safetensors"
    index_file.save(SCORED.section([Term(text="abc")]), path, WORDS)
    other = Vocabulary(speech_llm="other", tokens=9, phonemes=WORDS.phonemes)
    with pytest.raises(GlossaryError, match=r"made for toy \(60 tokens\), not for other"):
        index_file.load(path, SCORED.table, other)
    sounds = Vocabulary(speech_llm="toy", tokens=VOCABULARY, phonemes=("", "x"))
    with pytest.raises(GlossaryError, match="another phoneme head"):
        index_file.load(path, SCORED.table, sounds)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(GlossaryError, match="cannot read index"):
        index_file.load(path, SCORED.table, WORDS)
    path.write_text("not an index")
    with pytest.raises(GlossaryError, match="cannot read index"):
        index_file.load(path, SCORED.table, WORDS)

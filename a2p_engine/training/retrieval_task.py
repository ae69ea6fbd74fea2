"""Training the A2P head: which words and phrases were said (arXiv 2508.18701, section 3).

The loss runs on the folded form of the head: the two classes' difference needs one scalar per frame
and head instead of a value vector, which makes a step several times cheaper than the dense module
and gives the same numbers and gradients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.checkpoints import load_head
from a2p_engine.training import listed_terms
from a2p_engine.training.alignment import Aligner, Span
from a2p_engine.training.config import CurriculumConfig
from a2p_engine.training.data import Batch, FrameData
from a2p_engine.training.terms import TermSampler, joined_words
from a2p_engine.training.vocabulary import load_vocabulary

_QUALITY_TERMS = 5_000
_NEVER = -1e4  # a logarithm; finite, because gradients of infinities are not numbers


class WhitenedHead(nn.Module):
    """The A2P head behind inputs brought to zero mean and unit covariance.

    A few directions of frames and embeddings are huge and say little; on raw inputs the head learns
    many times more slowly. ``export`` folds the whitening into the head's own weights.
    """

    frame_mean: Tensor
    frame_map: Tensor
    embedding_mean: Tensor
    embedding_map: Tensor

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.head = AttentionRetriever(config)
        for name in ("frame", "embedding"):
            self.register_buffer(f"{name}_mean", torch.zeros(config.width))
            self.register_buffer(f"{name}_map", torch.eye(config.width))
        # Terms are rarely spoken: start from that, not from even odds.
        with torch.no_grad():
            self.head.audio_word_proj.bias.copy_(torch.tensor([1.0, -1.0]))

    def fit(self, frames: Tensor, embeddings: Tensor) -> None:
        """Measure mean and covariance on [n, D] frames and [V, D] embeddings.

        Raises:
            TrainingError: they have another width than the head.
        """
        width = self.head.config.width
        for what, rows in (("frames", frames), ("token embeddings", embeddings)):
            if rows.shape[1] != width:
                raise TrainingError(
                    f"{what} have {rows.shape[1]} dimensions, the configuration's width is {width}"
                )
        self.frame_mean.copy_(frames.mean(0))
        self.frame_map.copy_(_whitening(frames))
        self.embedding_mean.copy_(embeddings.mean(0))
        self.embedding_map.copy_(_whitening(embeddings))

    def forward(self, embeddings: Tensor, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What ``token_logits`` says of raw token embeddings [V, D] and raw frames [B, T, D]."""
        frames = (frames - self.frame_mean) @ self.frame_map
        embeddings = (embeddings - self.embedding_mean) @ self.embedding_map
        return token_logits(self.head, embeddings, frames, mask)

    @torch.no_grad()
    def export(self) -> AttentionRetriever:
        """The head that does the same to raw inputs."""
        width = self.head.config.width
        plain = AttentionRetriever(self.head.config)
        plain.load_state_dict(self.head.state_dict())
        attention, tokens = plain.audio_word_att.attn, plain.time_words_proj
        on_frames = attention.in_proj_weight[width:] @ self.frame_map  # keys and values
        attention.in_proj_weight[width:] = on_frames
        attention.in_proj_bias[width:] -= on_frames @ self.frame_mean
        tokens.weight.copy_(tokens.weight @ self.embedding_map)
        tokens.bias.copy_(tokens.bias - tokens.weight @ self.embedding_mean)
        return plain

    @torch.no_grad()
    def adopt(self, plain: AttentionRetriever) -> None:
        """Go on from a head on raw inputs: what ``export`` gives then is that head.

        Raises:
            TrainingError: it has another shape.
        """
        config, given = self.head.config, plain.config
        if replace(given, dropout=config.dropout) != config:
            raise TrainingError(f"the head to begin with is {given}, the configuration is {config}")
        self.head.load_state_dict(plain.state_dict())
        attention, tokens = self.head.audio_word_att.attn, self.head.time_words_proj
        on_frames = attention.in_proj_weight[config.width :]
        attention.in_proj_bias[config.width :] += on_frames @ self.frame_mean
        on_frames.copy_(_unmapped(on_frames, self.frame_map))
        tokens.bias.add_(tokens.weight @ self.embedding_mean)
        tokens.weight.copy_(_unmapped(tokens.weight, self.embedding_map))


def _unmapped(weight: Tensor, symmetric: Tensor) -> Tensor:
    """The [n, D] matrix that gives ``weight`` when multiplied by a symmetric [D, D] one."""
    found: Tensor = torch.linalg.solve(symmetric.double(), weight.double().T)
    return found.T.float()


def _whitening(rows: Tensor) -> Tensor:
    """Symmetric [D, D] map that takes [n, D] rows to unit covariance, tiny directions spared.

    So are those in which fewer rows than dimensions do not vary at all.
    """
    values, vectors = torch.linalg.eigh(torch.cov(rows.double().T))
    varied = values[-min(len(values), len(rows) - 1) :]  # ascending
    scale = values.clamp_min(0.01 * float(varied.median())).rsqrt()
    whitening: Tensor = ((vectors * scale) @ vectors.T).float()
    return whitening


def token_logits(
    head: AttentionRetriever, embeddings: Tensor, frames: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Class-1 minus class-0 logits of ``AttentionRetriever.token_logits``, folded, with gradients.

    Args:
        head: the dense head.
        embeddings: [V, D].
        frames: [B, T, D].
        mask: [B, T], true where a frame is real.

    Returns:
        [B, V] logits, a term's logit being the mean over its tokens; and [B, H, V, T], the
        logarithm of the attention.
    """
    config, attention = head.config, head.audio_word_att.attn
    heads, width = config.heads, config.width
    query_in, key_in, value_in = torch.split(attention.in_proj_weight, width)
    query_bias, _, value_bias = torch.split(attention.in_proj_bias, width)
    row = head.audio_word_proj.weight[1] - head.audio_word_proj.weight[0]
    constant = head.audio_word_proj.bias[1] - head.audio_word_proj.bias[0]
    if config.fc:
        constant = constant + row @ head.audio_word_fc.bias
        row = row @ head.audio_word_fc.weight
    heard_row, token_row = torch.split(row, width) if config.merge == "fc" else (row, row)
    constant = constant + heard_row @ attention.out_proj.bias
    per_head = (heard_row @ attention.out_proj.weight).view(heads, -1)  # [H, d]
    value_weight = torch.einsum("hd,hdw->hw", per_head, value_in.view(heads, -1, width))
    values = frames @ value_weight.T + (per_head * value_bias.view(heads, -1)).sum(1)  # [B, T, H]

    tokens = head.time_words_proj(embeddings)  # [V, D]
    queries = nn.functional.linear(tokens, query_in, query_bias).view(-1, heads, width // heads)
    keys = (frames @ key_in.T).view(*frames.shape[:2], heads, -1)  # [B, T, H, d]
    scores = torch.einsum("vhd,bthd->bhvt", queries / math.sqrt(width // heads), keys)
    scores = scores.masked_fill(~mask[:, None, None, :], _NEVER)
    log_attention = scores.log_softmax(-1)
    gain = torch.einsum("bhvt,bth->bv", log_attention.exp(), values)
    return gain + tokens @ token_row + constant, log_attention


def pool_frames(frames: Tensor, lengths: Tensor, pool: int = 2) -> tuple[Tensor, Tensor]:
    """Average neighbours as the live retriever does; an odd last frame stands alone.

    Args:
        frames: [B, T, D], padded.
        lengths: [B] real frames.
        pool: frames in 40 ms: 2 at 50 Hz, 1 at 25 Hz.

    Returns:
        [B, ceil(T/pool), D] at 25 Hz, and the mask [B, ceil(T/pool)] of real ones.
    """
    batch, count, width = frames.shape
    steps = torch.arange(count, device=frames.device)
    real = (steps[None, :] < lengths[:, None]).to(frames.dtype)[..., None]
    both = torch.cat([frames * real, real], dim=-1)
    if count % pool:
        both = nn.functional.pad(both, (0, 0, 0, 1))
    sums = both.view(batch, -1, pool, width + 1).sum(2)
    weight = sums[..., -1:]
    return sums[..., :-1] / weight.clamp_min(1), weight[..., 0] > 0


class TermTokens(NamedTuple):
    """Tokens of N terms.

    Attributes:
        distinct: [V] token ids.
        rows: [sum of lengths] into ``distinct``, term after term.
        owner: [sum of lengths] the term of each.
        lengths: [N] tokens per term.
    """

    distinct: Tensor
    rows: Tensor
    owner: Tensor
    lengths: Tensor


class RetrievalTask:
    """Loss and quality of the A2P head; see ``train.Task``."""

    quality_name = "recall@10"

    def __init__(
        self,
        config: AttentionConfig,
        curriculum: CurriculumConfig,
        *,
        model: Path,
        rare_words: Sequence[str],
        data: FrameData,
        aligner: Aligner | None = None,
        start: Path | None = None,
    ) -> None:
        """Make an untrained head, or go on from a trained one.

        Args:
            config: shape of the head.
            curriculum: what it is asked about.
            model: directory of the Whisper weights or of a split Qwen2-Audio.
            rare_words: words for negatives.
            data: training data, for word counts and the frames' mean and covariance.
            aligner: tells where words were said; None trains without guidance.
            start: file of the trained head.

        Raises:
            ModelError: the model's files or the trained head cannot be read.
            TrainingError: the trained head has another shape.
        """
        self._curriculum = curriculum
        self._pool = data.pool
        self._table, self._token_ids = load_vocabulary(model)
        self._aligner = aligner
        self._sampler = TermSampler([u.text for u in data.utterances], rare_words)
        self.module: nn.Module
        self._whitened = WhitenedHead(config)
        few = range(0, len(data), max(1, len(data) // 500))
        self._whitened.fit(torch.cat([data.frames(i)[::4] for i in few]), self._table)
        if start is not None:
            self._whitened.adopt(load_head(start))
        self.module = self._whitened

    def loss(self, module: nn.Module, batch: Batch, progress: float, seed: int) -> Tensor:
        """Weighted binary cross-entropy of every term against every utterance of the batch.

        While it fades out, a second loss guides the attention: of tokens that were said to their
        word, of the others to where nobody speaks.
        """
        terms, answers = self._ask(batch, progress, seed)
        if not terms:  # listed for none of these utterances: nothing to learn, gradients of zero
            return torch.stack([parameter.sum() for parameter in module.parameters()]).sum() * 0
        tokens = self._tokens(terms)
        logits, log_attention = self._forward(module, tokens, batch)
        said = answers.to(logits.device)
        weight = torch.tensor(self._curriculum.positive_weight, device=logits.device)
        # Smoothing as of a cross-entropy over the two classes: half of it goes to the other one.
        smooth = self._curriculum.label_smoothing
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits, said * (1 - smooth) + smooth / 2, pos_weight=weight
        )
        if self._curriculum.source == "text":
            # About one answer in fifty is yes; in this unit the loss starts near one.
            loss = loss * len(terms) / max(1.0, float(said.sum()) / len(said) * 10)
        guidance = 1 - progress / max(self._curriculum.guide_until, 1e-9)
        if self._aligner is None or guidance <= 0:
            return loss
        spans = self._aligner.spans(batch)
        return loss + guidance * self._guide(log_attention, tokens.distinct, spans)

    def _ask(self, batch: Batch, progress: float, seed: int) -> tuple[list[str], Tensor]:
        """Terms, and [B, N] whether they were said."""
        asked = self._curriculum
        if asked.source == "listed":
            terms, said = listed_terms.draw(
                batch.utterances, level=asked.level, limit=asked.terms_per_batch, seed=seed
            )
            return terms, torch.from_numpy(said).float()
        texts = [joined_words(u.text) for u in batch.utterances]
        terms = self._sampler.draw(texts, asked, progress=progress, seed=seed)
        return terms, torch.tensor(
            [[float(f" {t.lower()} " in text) for t in terms] for text in texts]
        )

    def _guide(
        self, log_attention: Tensor, distinct: Tensor, spans: list[list[tuple[str, Span]]]
    ) -> Tensor:
        """How little attention [B, H, V, T] goes where it should, in nats, mean over the heads."""
        batch, _, count, steps = log_attention.shape
        column = {int(token): number for number, token in enumerate(distinct)}
        place = torch.zeros(batch, count, steps, dtype=torch.bool)
        silence = torch.ones(batch, 1, steps, dtype=torch.bool)
        for row, words in enumerate(spans):
            for word, (start, end) in words:
                silence[row, :, start:end] = False
                for token in self._token_ids(word):
                    if (number := column.get(token)) is not None:
                        place[row, number, start:end] = True
        spoken = place.any(-1)  # [B, V]
        wanted = torch.where(spoken[..., None], place, silence).to(log_attention.device)
        mass = torch.logsumexp(log_attention.masked_fill(~wanted[:, None], _NEVER), -1).mean(1)
        lost = (-mass).clamp_max(20.0)  # [B, V]; an utterance without silence says nothing
        aligned = torch.tensor([bool(words) for words in spans])[:, None] & silence.any(-1)
        near, far = lost[spoken.to(lost.device)], lost[(aligned & ~spoken).to(lost.device)]
        return torch.stack(
            [part.mean() for part in (near, far) if len(part)] or [lost.sum() * 0]
        ).sum()

    def term_logits(self, module: nn.Module, terms: Sequence[str], batch: Batch) -> Tensor:
        """[B, N] logits; each distinct token is computed once."""
        return self._forward(module, self._tokens(terms), batch)[0]

    def _forward(
        self, module: nn.Module, tokens: TermTokens, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """[B, N] logits of terms and [B, H, V, T] log-attention of their tokens."""
        frames, mask = pool_frames(batch.frames, batch.lengths, self._pool)
        device = frames.device
        per_token, log_attention = module(self._table[tokens.distinct].to(device), frames, mask)
        sums = per_token.new_zeros(len(frames), len(tokens.lengths))
        sums = sums.index_add(1, tokens.owner.to(device), per_token[:, tokens.rows.to(device)])
        return sums / tokens.lengths.to(device), log_attention

    def _tokens(self, terms: Sequence[str]) -> TermTokens:
        ids = [self._token_ids(term) for term in terms]
        distinct, rows = torch.unique(
            torch.tensor([token for row in ids for token in row]), return_inverse=True
        )
        lengths = torch.tensor([len(row) for row in ids])
        return TermTokens(distinct, rows, torch.repeat_interleave(lengths), lengths)

    @torch.no_grad()
    def quality(self, module: nn.Module, data: FrameData) -> float:
        """Share of spoken terms among the ten likeliest.

        They are the rarer words of the texts among 5,000 others, or of listed terms at most 5,000.
        """
        device = next(module.parameters()).device
        terms, spoken = self._examine(data)
        found = total = 0
        for number, said in enumerate(spoken):
            batch = data.collate([number])
            moved = Batch(
                frames=batch.frames.to(device),
                lengths=batch.lengths.to(device),
                utterances=batch.utterances,
            )
            logits = self.term_logits(module, terms, moved)[0]
            best = logits.topk(min(10, len(terms))).indices.tolist()
            found += len(said.intersection(best))
            total += len(said)
        return found / max(total, 1)

    def _examine(self, data: FrameData) -> tuple[list[str], list[set[int]]]:
        """Terms, and for each utterance the places of those it says."""
        if self._curriculum.source == "listed":
            terms = listed_terms.glossary(data.utterances, _QUALITY_TERMS)
            place = {term: number for number, term in enumerate(terms)}
            return terms, [{place[t] for t in u.terms if t in place} for u in data.utterances]
        texts = [joined_words(u.text) for u in data.utterances]
        terms = self._sampler.glossary(texts, _QUALITY_TERMS)
        return terms, [{n for n, term in enumerate(terms) if f" {term} " in text} for text in texts]

    def save(self, path: Path) -> None:
        """Write the head as it is shipped: released names, float16, shape in the metadata."""
        head = self._whitened.export()
        state = {name: value.half().contiguous() for name, value in head.state_dict().items()}
        save_file(state, path, {"config": json.dumps(asdict(head.config))})

"""Training the A2P head: which words and phrases were said (arXiv 2508.18701, section 3).

The loss runs on the folded form of the head: the two classes' difference needs one scalar per frame
and head instead of a value vector, which makes a step several times cheaper than the dense module
and gives the same numbers and gradients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from a2p_engine.encoders.whisper_tables import token_embeddings
from a2p_engine.errors import ModelError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.training.config import CurriculumConfig
from a2p_engine.training.data import Batch, FrameData
from a2p_engine.training.terms import TermSampler, joined_words

_QUALITY_TERMS = 5_000


class StandardisedHead(nn.Module):
    """The A2P head behind inputs brought to zero mean and unit variance.

    Frames have a few huge dimensions and embeddings are tiny; on raw inputs the head learns several
    times more slowly. ``export`` folds the standardisation into the head's own weights.
    """

    frame_mean: Tensor
    frame_std: Tensor
    embedding_std: Tensor

    def __init__(self, config: AttentionConfig, embedding_std: float) -> None:
        super().__init__()
        self.head = AttentionRetriever(config)
        self.register_buffer("frame_mean", torch.zeros(config.width))
        self.register_buffer("frame_std", torch.ones(config.width))
        self.register_buffer("embedding_std", torch.tensor(embedding_std))
        # Terms are rarely spoken: start from that, not from even odds.
        with torch.no_grad():
            self.head.audio_word_proj.bias.copy_(torch.tensor([1.0, -1.0]))

    def fit(self, frames: Tensor) -> None:
        """Measure mean and deviation on [n, D] frames."""
        self.frame_mean.copy_(frames.mean(0))
        self.frame_std.copy_(frames.std(0).clamp_min(1e-3))

    def forward(self, embeddings: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Logit of "spoken" against "not spoken" of single tokens.

        Args:
            embeddings: [V, D] raw token embeddings.
            frames: [B, T, D] raw frames at 25 Hz.
            mask: [B, T], true where a frame is real.

        Returns:
            [B, V]; a term's logit is the mean over its tokens.
        """
        frames = (frames - self.frame_mean) / self.frame_std
        return token_logits(self.head, embeddings / self.embedding_std, frames, mask)

    @torch.no_grad()
    def export(self) -> AttentionRetriever:
        """The head that does the same to raw inputs."""
        width = self.head.config.width
        plain = AttentionRetriever(self.head.config)
        plain.load_state_dict(self.head.state_dict())
        attention = plain.audio_word_att.attn
        on_frames = attention.in_proj_weight[width:] / self.frame_std  # keys and values
        attention.in_proj_weight[width:] = on_frames
        attention.in_proj_bias[width:] -= on_frames @ self.frame_mean
        plain.time_words_proj.weight /= self.embedding_std
        return plain


def token_logits(
    head: AttentionRetriever, embeddings: Tensor, frames: Tensor, mask: Tensor
) -> Tensor:
    """Class-1 minus class-0 logits of ``AttentionRetriever.token_logits``, folded, with gradients.

    Args:
        head: the dense head.
        embeddings: [V, D].
        frames: [B, T, D].
        mask: [B, T], true where a frame is real.

    Returns:
        [B, V].
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
    scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
    gain = torch.einsum("bhvt,bth->bv", scores.softmax(-1), values)
    logits: Tensor = gain + tokens @ token_row + constant
    return logits


def pool_frames(frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Average pairs of frames as the live retriever does; an odd last frame stands alone.

    Args:
        frames: [B, T, D] at 50 Hz, padded.
        lengths: [B] real frames.

    Returns:
        [B, ceil(T/2), D] at 25 Hz, and the mask [B, ceil(T/2)] of real ones.
    """
    batch, count, width = frames.shape
    steps = torch.arange(count, device=frames.device)
    real = (steps[None, :] < lengths[:, None]).to(frames.dtype)[..., None]
    both = torch.cat([frames * real, real], dim=-1)
    if count % 2:
        both = nn.functional.pad(both, (0, 0, 0, 1))
    sums = both.view(batch, -1, 2, width + 1).sum(2)
    weight = sums[..., -1:]
    return sums[..., :-1] / weight.clamp_min(1), weight[..., 0] > 0


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
    ) -> None:
        """Make an untrained head.

        Args:
            config: shape of the head.
            curriculum: what it is asked about.
            model: directory of the Whisper weights and tokenizer.json.
            rare_words: words for negatives.
            data: training data, for word counts and the frames' mean and deviation.

        Raises:
            ModelError: the model's files cannot be read.
        """
        self._curriculum = curriculum
        table = torch.from_numpy(token_embeddings(model))
        try:
            self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more special
            raise ModelError(f"cannot read {model / 'tokenizer.json'}: {error}") from error
        self._table = table
        self._sampler = TermSampler([u.text for u in data.utterances], rare_words)
        self.module: nn.Module
        self._standardised = StandardisedHead(config, float(table.std()))
        few = range(0, len(data), max(1, len(data) // 500))
        self._standardised.fit(torch.cat([data.frames(i)[::4] for i in few]))
        self.module = self._standardised

    def loss(self, module: nn.Module, batch: Batch, progress: float, seed: int) -> Tensor:
        """Weighted binary cross-entropy of every term against every utterance of the batch."""
        texts = [joined_words(u.text) for u in batch.utterances]
        terms = self._sampler.draw(texts, self._curriculum, progress=progress, seed=seed)
        logits = self.term_logits(module, terms, batch)  # [B, N]
        said = torch.tensor(
            [[f" {term.lower()} " in text for term in terms] for text in texts],
            dtype=torch.float32,
            device=logits.device,
        )
        weight = torch.tensor(self._curriculum.positive_weight, device=logits.device)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, said, pos_weight=weight)
        # About one answer in fifty is yes; in this unit the loss starts near one.
        return loss * len(terms) / max(1.0, float(said.sum()) / len(texts) * 10)

    def term_logits(self, module: nn.Module, terms: Sequence[str], batch: Batch) -> Tensor:
        """[B, N] logits; each distinct token is computed once."""
        encoded = self._tokenizer.encode_batch([f" {t}" for t in terms], add_special_tokens=False)
        ids = [e.ids for e in encoded]
        flat = torch.tensor([token for row in ids for token in row])
        owner = torch.repeat_interleave(torch.tensor([len(row) for row in ids]))
        distinct, rows = torch.unique(flat, return_inverse=True)
        frames, mask = pool_frames(batch.frames, batch.lengths)
        tokens = module(self._table[distinct].to(frames.device), frames, mask)  # [B, V]
        sums = tokens.new_zeros(len(frames), len(ids))
        sums = sums.index_add(1, owner.to(frames.device), tokens[:, rows.to(frames.device)])
        pooled: Tensor = sums / torch.bincount(owner).to(frames.device)
        return pooled

    @torch.no_grad()
    def quality(self, module: nn.Module, data: FrameData) -> float:
        """Share of rarer spoken words among the ten likeliest of 5,000 and more words."""
        device = next(module.parameters()).device
        texts = [joined_words(u.text) for u in data.utterances]
        terms = self._sampler.glossary(texts, _QUALITY_TERMS)
        found = total = 0
        for number, text in enumerate(texts):
            said = {n for n, term in enumerate(terms) if f" {term} " in text}
            batch = data.collate([number])
            moved = Batch(
                frames=batch.frames.to(device),
                lengths=batch.lengths.to(device),
                utterances=batch.utterances,
            )
            best = self.term_logits(module, terms, moved)[0].topk(10).indices.tolist()
            found += len(said.intersection(best))
            total += len(said)
        return found / max(total, 1)

    def save(self, path: Path) -> None:
        """Write the head as it is shipped: released names, float16, shape in the metadata."""
        head = self._standardised.export()
        state = {name: value.half().contiguous() for name, value in head.state_dict().items()}
        save_file(state, path, {"config": json.dumps(asdict(head.config))})

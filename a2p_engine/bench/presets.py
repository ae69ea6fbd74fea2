"""Shapes of the models whose retrievers are measured."""

from __future__ import annotations

from dataclasses import dataclass

from a2p_engine.errors import InputError
from a2p_engine.retriever.attention import AttentionConfig

FRAMES_PER_S = 25


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Shape of one model's A2P head and vocabulary.

    Attributes:
        name: of the model.
        width: D.
        heads: H.
        vocabulary: rows of the token embedding table.
    """

    name: str
    width: int
    heads: int
    vocabulary: int

    @property
    def head(self) -> AttentionConfig:
        """The head measured: merge ``add``, with ``audio_word_fc``."""
        return AttentionConfig(width=self.width, heads=self.heads, merge="add", fc=True)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(name="whisper-base", width=512, heads=8, vocabulary=51_865),
        Preset(name="qwen2-audio", width=4096, heads=32, vocabulary=156_032),
    )
}


def find(name: str) -> Preset:
    """The preset of this name.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]

"""Compare this implementation with outputs of the released A2P module: python -m a2p_engine.parity.

A parity file is a safetensors file with the module's state dict under ``model.``, its configuration
as JSON in the metadata, an input (token_embeddings, term_token_ids, term_token_mask, audio,
audio_mask) and the module's output (log_probs). Printed is, per file, the largest absolute
difference of the class-1 log-probability; the exit status is 1 when one is above ``TOLERANCE``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from a2p_engine.errors import A2PError, ModelError
from a2p_engine.ops import term_score
from a2p_engine.retriever.attention import AttentionRetriever
from a2p_engine.retriever.folded import FoldedHead, fold
from a2p_engine.retriever.head_config import read_published
from a2p_engine.retriever.term_scorer import Chunk, TermScorer
from a2p_engine.retriever.token_table import TokenTable

TOLERANCE = 1e-4
CHUNKINGS = (1, 7, 25)  # frames per chunk


def compare(path: Path) -> dict[str, float | None]:
    """Largest differences by form: the dense module, the folded one, and that in chunks.

    Raises:
        ModelError: the file is not a parity file.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            config = (file.metadata() or {})["config"]
        module = AttentionRetriever(read_published(config, f"metadata of {path}")).eval()
        prefix = "model."
        module.load_state_dict(
            {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
        )
        return _differences(module, tensors)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} is not a parity file: {error}") from error


@torch.no_grad()
def _differences(module: AttentionRetriever, tensors: dict[str, Tensor]) -> dict[str, float | None]:
    expected = tensors["log_probs"][..., 1]  # [B, N]
    dense = module(
        tensors["token_embeddings"],
        tensors["term_token_ids"],
        tensors["term_token_mask"],
        tensors["audio"],
        tensors["audio_mask"],
    )[..., 1]
    head = fold(module)
    found = {"dense": dense, "folded": _folded(head, tensors, None, term_score)}
    for frames in CHUNKINGS:
        found[f"folded, {frames} frames at a time"] = _folded(head, tensors, frames, term_score)
    kernel = _kernel()
    if kernel is not None:
        found["kernel"] = _folded(head, tensors, None, kernel)
        found[f"kernel, {CHUNKINGS[1]} frames at a time"] = _folded(
            head, tensors, CHUNKINGS[1], kernel
        )
    differences: dict[str, float | None] = {} if kernel else {"kernel": None}
    return differences | {name: float((v - expected).abs().max()) for name, v in found.items()}


def _kernel() -> ModuleType | None:
    """The Triton kernels, interpreted on the CPU; none where Triton is not installed."""
    os.environ.setdefault("TRITON_INTERPRET", "1")
    try:
        return importlib.import_module("a2p_engine.ops.term_score.triton")
    except ImportError as error:
        print(f"the kernel is not compared: {error}", file=sys.stderr)
        return None


def _folded(
    head: FoldedHead, tensors: dict[str, Tensor], chunk: int | None, ops: ModuleType
) -> Tensor:
    """[B, N] class-1 log-probabilities; the frames are fed in chunks, or at once.

    Of each chunk but the last, the second half is provisional and fed again with the next.
    """
    table = TokenTable(head, tensors["token_embeddings"])
    scorer = TermScorer(head, table, ops.attend)
    real = tensors["term_token_mask"].bool()
    rows = torch.from_numpy(table.rows(tensors["term_token_ids"][real].numpy()))
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), real.sum(1).cumsum(0)]).int()
    outputs = torch.empty(len(tensors["audio"]), len(real))
    for number, (audio, mask) in enumerate(
        zip(tensors["audio"], tensors["audio_mask"], strict=True)
    ):
        gain = _gain(scorer, audio[mask.bool()], chunk)
        bias = torch.zeros(len(real))
        ops.pool(gain + table.priors, rows, offsets, bias, outputs[number : number + 1])
    return torch.nn.functional.logsigmoid(outputs)


def _gain(scorer: TermScorer, frames: Tensor, chunk: int | None) -> Tensor:
    hearing, begin = scorer.start(), 0
    end = chunk or len(frames)
    while end < len(frames):
        settled = (end - begin + 1) // 2
        scorer.hear([Chunk(hearing, frames[begin:end], settled)])
        begin, end = begin + settled, end + (chunk or 0)
    return scorer.hear([Chunk(hearing, frames[begin:], len(frames) - begin)])


def main(arguments: Sequence[str]) -> int:
    """Print JSON for each file; see the module's docstring."""
    if not arguments:
        print("usage: python -m a2p_engine.parity FILE...", file=sys.stderr)
        return 2
    worst = 0.0
    for argument in arguments:
        try:
            differences = compare(Path(argument))
        except A2PError as error:
            print(error, file=sys.stderr)
            return 1
        worst = max(worst, *(value for value in differences.values() if value is not None))
        print(json.dumps({"file": argument, "largest_difference": differences}, indent=2))
    return int(not worst <= TOLERANCE)  # NaN is no agreement


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

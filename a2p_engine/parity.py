"""Compare this implementation with outputs of the released A2P module: python -m a2p_engine.parity.

A parity file is a safetensors file with the module's state dict under ``model.``, its configuration
as JSON in the metadata, an input (token_embeddings, term_token_ids, term_token_mask, audio,
audio_mask) and the module's output (log_probs). Printed is, per file, the largest absolute
difference of the class-1 log-probability; the exit status is 1 when one is above ``TOLERANCE``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from a2p_engine.errors import A2PError, ModelError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.folded import FoldedHead, fold
from a2p_engine.retriever.incremental import AttentionState, pool_terms

TOLERANCE = 1e-4
CHUNKINGS = (1, 7, 25)  # frames per chunk


def compare(path: Path) -> dict[str, float]:
    """Largest differences by form: the dense module, the folded one, and that in chunks.

    Raises:
        ModelError: the file is not a parity file.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            config = json.loads((file.metadata() or {})["config"])
        module = AttentionRetriever(
            AttentionConfig(
                width=config["n_embed"],
                heads=config["retriever_n_head"],
                merge=config["retriever_merge_type"],
                fc=config["retriever_audio_word_fc"],
            )
        ).eval()
        prefix = "model."
        module.load_state_dict(
            {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
        )
        return _differences(module, tensors)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} is not a parity file: {error}") from error


@torch.no_grad()
def _differences(module: AttentionRetriever, tensors: dict[str, Tensor]) -> dict[str, float]:
    expected = tensors["log_probs"][..., 1]  # [B, N]
    dense = module(
        tensors["token_embeddings"],
        tensors["term_token_ids"],
        tensors["term_token_mask"],
        tensors["audio"],
        tensors["audio_mask"],
    )[..., 1]
    found = {"dense": dense, "folded": _folded(fold(module), tensors, None)}
    for frames in CHUNKINGS:
        found[f"folded, {frames} frames at a time"] = _folded(fold(module), tensors, frames)
    return {name: float((values - expected).abs().max()) for name, values in found.items()}


def _folded(head: FoldedHead, tensors: dict[str, Tensor], chunk: int | None) -> Tensor:
    """[B, N] class-1 log-probabilities; the frames are fed in chunks, or at once."""
    queries, priors = head.tokens(tensors["token_embeddings"])
    real = tensors["term_token_mask"].bool()
    rows = tensors["term_token_ids"][real]
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), real.sum(1).cumsum(0)])
    outputs = []
    for audio, mask in zip(tensors["audio"], tensors["audio_mask"], strict=True):
        heard = audio[mask.bool()]
        state = AttentionState.empty(head.heads, len(priors))
        for part in heard.split(chunk or len(heard)):
            state = state.merge(AttentionState.of(queries, *head.frames(part)))
        logits = pool_terms(state.gain() + priors, rows, offsets)
        outputs.append(torch.nn.functional.logsigmoid(logits))
    return torch.stack(outputs)


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
        worst = max(worst, *differences.values())
        print(json.dumps({"file": argument, "largest_difference": differences}, indent=2))
    return int(not worst <= TOLERANCE)  # NaN is no agreement


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What training a retriever needs of Qwen2-Audio, in three small files instead of 17 GB.

Written are ``audio_tower.safetensors``, ``projector.safetensors`` and ``embedding.safetensors``
beside ``config.json`` and ``tokenizer.json``. Read is a checkpoint in safetensors, part by part, or
the split published with the paper (arXiv 2508.18701): ``audio_tower.pt``, ``projector.pt`` and
``embedding.pt``, which hold whole modules. Those are unpickled with torch's restriction to weights
and the classes of which the modules are made; any other name in the file is refused, not run.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Qwen2AudioConfig, Qwen2AudioEncoderConfig
from transformers.activations import GELUActivation
from transformers.models.qwen2_audio import modeling_qwen2_audio as library

from a2p_engine.errors import InputError, ModelError
from a2p_engine.speech_llm.pretrained import read_config

# File of the split, and how names of its tensors begin in a checkpoint, old or new.
PARTS: dict[str, re.Pattern[str]] = {
    "audio_tower": re.compile(r"^(?:model\.)?audio_tower\."),
    "projector": re.compile(r"^(?:model\.)?multi_modal_projector\."),
    "embedding": re.compile(r"^(?:model\.)?language_model\.(?:model\.)?embed_tokens\."),
}
COPIED = ("config.json", "tokenizer.json")
_MODULES: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *(nn.Conv1d, nn.Linear, nn.LayerNorm, nn.Embedding, nn.ModuleList, nn.AvgPool1d, nn.GELU),
    *(library.Qwen2AudioEncoder, library.Qwen2AudioEncoderLayer, library.Qwen2AudioAttention),
    *(library.Qwen2AudioMultiModalProjector, GELUActivation, nn.functional.gelu),
    *(Qwen2AudioConfig, Qwen2AudioEncoderConfig, set),
    # Names of the attention in transformers 4.51, with which the published parts were made.
    *(
        (library.Qwen2AudioAttention, f"{library.__name__}.Qwen2Audio{kind}Attention{version}")
        for kind, version in (("Sdpa", ""), ("Flash", "2"))
    ),
]


def split(checkpoint: Path, out: Path, *, overwrite: bool = False) -> dict[str, int]:
    """Write the parts.

    Args:
        checkpoint: directory of a whole checkpoint, or of the published parts.
        out: directory for the files; made if need be.
        overwrite: whether they may be there already.

    Returns:
        Numbers in each part.

    Raises:
        ModelError: the checkpoint is missing, damaged, or of another model.
        InputError: the output is there already or cannot be written.
    """
    there = [name for name in PARTS if (out / f"{name}.safetensors").exists()]
    if there and not overwrite:
        raise InputError(f"{out / there[0]}.safetensors exists; --force writes over it")
    published = (checkpoint / "audio_tower.pt").exists()
    read = _published if published else _whole
    parts = {name: read(checkpoint, name) for name in PARTS}
    _check(parts, str(checkpoint))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, tensors in parts.items():
            save_file(
                {key: value.contiguous().clone() for key, value in tensors.items()},
                out / f"{name}.safetensors",
            )
        for name in COPIED:
            if (checkpoint / name).exists() and checkpoint.resolve() != out.resolve():
                shutil.copy(checkpoint / name, out / name)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write to {out}: {error}") from error
    return {name: sum(map(Tensor.numel, tensors.values())) for name, tensors in parts.items()}


def _whole(checkpoint: Path, part: str) -> dict[str, Tensor]:
    """Tensors of a part from all files of a checkpoint, without its name before them."""
    found: dict[str, Tensor] = {}
    for path in _files(checkpoint):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    if begin := PARTS[part].match(name):
                        found[name[begin.end() :]] = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read {path}: {error}") from error
    return found


def _files(checkpoint: Path) -> list[Path]:
    """Safetensors files that the index names, or all there are."""
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"cannot read {index}: {error}") from error
        return [checkpoint / Path(name).name for name in names]
    if found := sorted(checkpoint.glob("*.safetensors")):
        return found
    raise ModelError(
        f"{checkpoint} holds neither safetensors files nor audio_tower.pt, projector.pt "
        "and embedding.pt"
    )


def _published(checkpoint: Path, part: str) -> dict[str, Tensor]:
    path = checkpoint / f"{part}.pt"
    try:
        with torch.serialization.safe_globals(_MODULES):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing") from error
    except Exception as error:  # damaged pickles end in nearly any exception
        raise ModelError(f"{path} {_reason(error)}") from error
    if isinstance(held, nn.Module):
        held = held.state_dict()
    if isinstance(held, Tensor):
        held = {"weight": held}
    if not isinstance(held, Mapping) or not all(isinstance(v, Tensor) for v in held.values()):
        raise ModelError(f"{path} holds no tensors but {type(held).__name__}")
    return dict(held)


def _reason(error: Exception) -> str:
    # Not in torch's words: they include how to run the code in a file that it refuses.
    named = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and named:
        return f"is refused: it asks for {named[1]}, which is no part of the model and was not run"
    return "is damaged, or no torch file"


def _check(parts: Mapping[str, Mapping[str, Tensor]], source: str) -> None:
    wanted = {"audio_tower": "conv1.weight", "projector": "linear.weight", "embedding": "weight"}
    for part, name in wanted.items():
        if name not in parts[part]:
            raise ModelError(f"{source} is no Qwen2-Audio: {part} lacks {name}")
    width = parts["projector"]["linear.weight"].shape[0]
    if parts["embedding"]["weight"].shape[1] != width:
        raise ModelError(f"{source}: projector and embedding are of different widths")


def load_embedding(directory: Path) -> Tensor:
    """The token embedding table of a split, float32 [V, D].

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = directory / "embedding.safetensors"
    try:
        with safe_open(path, "pt") as file:
            table: Tensor = file.get_tensor("weight").float()
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    return table


def load_encoder_parts(directory: Path) -> tuple[nn.Module, nn.Module]:
    """Audio tower and projector of a split, as they are stored.

    Raises:
        ModelError: a file is missing, damaged or does not fit the configuration.
    """
    try:
        config: Any = Qwen2AudioConfig(**read_config(directory))
        with torch.device("meta"):
            tower = library.Qwen2AudioEncoder(config.audio_config)
            projector = library.Qwen2AudioMultiModalProjector(config)
        for module, part in ((tower, "audio_tower"), (projector, "projector")):
            with safe_open(directory / f"{part}.safetensors", "pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}
            module.load_state_dict(state, assign=True)
    except (OSError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
        raise ModelError(f"cannot load the encoder in {directory}: {error}") from error
    return tower, projector

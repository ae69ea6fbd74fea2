"""Loading transformers models: from a directory or the hub's cache, safetensors only, no code.

Nothing is downloaded here, so that a server never starts with gigabytes of traffic: a model lies in
``$A2P_MODELS_DIR/<name>`` or was fetched with ``hf download <repository>``.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import BitsAndBytesConfig, PreTrainedModel

from a2p_engine import models
from a2p_engine.encoders.base import Device
from a2p_engine.errors import ModelError
from a2p_engine.kernel_memory import bound_kernels

ModelT = TypeVar("ModelT", bound=PreTrainedModel)
# What is not quantised: the retriever hears through the encoder, and logits need their digits.
WHOLE = ("audio_tower", "multi_modal_projector", "lm_head")


def find_pretrained(name: str, repository: str) -> Path:
    """Directory of a model's files.

    Args:
        name: of the directory in ``$A2P_MODELS_DIR``.
        repository: on the Hugging Face hub.

    Raises:
        ModelError: it is on this machine in neither place; the text says how to get it.
    """
    if (local := models.local(name)) is not None:
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"model {name!r} is not on this machine: run `hf download {repository}`, "
            f"or put its files into $A2P_MODELS_DIR/{name}"
        ) from error


def choose_device(device: Device) -> torch.device:
    """Where a transformers model goes.

    Raises:
        ModelError: CUDA is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"--device cuda: torch {torch.__version__} finds no CUDA device here")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA; CPUs are slow at it, so float32 there."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load_pretrained(
    kind: type[ModelT], directory: Path, device: Device, *, four_bit: bool = False
) -> ModelT:
    """Load a model for inference.

    Args:
        kind: its class; code that comes with the weights is never run.
        directory: holds config.json and safetensors files.
        device: ``cpu``, ``cuda`` or ``auto``.
        four_bit: keep the language model's weights in four bits (NF4).

    Raises:
        ModelError: files are missing or damaged, or what four bits need is not there.
    """
    where = choose_device(device)
    library: Any = kind  # whose types know neither loading reports nor devices
    options: dict[str, Any] = {"dtype": choose_dtype(where)}
    if four_bit:
        options |= {"quantization_config": _four_bit(where), "device_map": {"": where}}
    bound_kernels()
    try:
        model, found = library.from_pretrained(
            directory,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load {kind.__name__} from {directory}: {error}") from error
    # The library would go on with random numbers for these.
    if lacking := sorted([*found["missing_keys"], *found["mismatched_keys"]], key=str):
        raise ModelError(
            f"{directory} is no {kind.__name__}: {len(lacking)} tensors are missing or of another "
            f"shape, {lacking[0]} among them"
        )
    loaded: ModelT = (model if four_bit else model.to(where)).eval().requires_grad_(False)
    return loaded


def _four_bit(device: torch.device) -> BitsAndBytesConfig:
    if find_spec("bitsandbytes") is None:
        raise ModelError("four-bit weights need bitsandbytes: pip install bitsandbytes")
    if device.type != "cuda":
        raise ModelError("four-bit weights need a CUDA device; leave out -4bit for the CPU")
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(WHOLE),
    )


def load_tokenizer(directory: Path) -> Tokenizer:
    """Read tokenizer.json.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more special
        raise ModelError(f"cannot read {directory / 'tokenizer.json'}: {error}") from error


def end_tokens(model: PreTrainedModel, tokenizer: Tokenizer, *names: str) -> frozenset[int]:
    """Ids of the tokens that end a text: those of the generation settings, and some by name.

    Raises:
        ModelError: there is none.
    """
    said = model.generation_config.eos_token_id if model.generation_config else None
    ids = {said} if isinstance(said, int) else set(said or ())
    ids |= {number for name in names if (number := tokenizer.token_to_id(name)) is not None}
    if not ids:
        raise ModelError(f"the tokenizer knows none of {', '.join(names)}, which end a text")
    return frozenset(ids)


def read_config(directory: Path) -> dict[str, Any]:
    """config.json as it is.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = directory / "config.json"
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a JSON object of keys and values")
    return values

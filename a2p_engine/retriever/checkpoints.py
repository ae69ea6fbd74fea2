"""Checkpoints of the A2P head: our own files, and those published with the paper.

Ours is a safetensors file: tensors under the published names and, as JSON in the metadata under
``config``, the fields of ``AttentionConfig``. Published (arXiv 2508.18701) is what torch.save
wrote, the state dict alone or under ``model`` beside the optimizer's, and a JSON configuration.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from a2p_engine.errors import InputError, ModelError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.head_config import read_own, read_published

_NAMED = 5  # of each kind of misfit, so that an error stays readable
_PREFIX = "module."  # once for every wrapper around the module that was saved


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What ``convert`` wrote.

    Attributes:
        config: shape of the head.
        parameters: how many numbers the head has.
        dtypes: kinds of numbers in the file, such as ``bfloat16``.
        size_bytes: of the file.
    """

    config: AttentionConfig
    parameters: int
    dtypes: tuple[str, ...]
    size_bytes: int


def load_head(path: Path) -> AttentionRetriever:
    """Read a trained A2P head from a file of our own form, in float32.

    Raises:
        ModelError: the file is missing, damaged or of another shape.
    """
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("config", "{}")
            state = {name: file.get_tensor(name).float() for name in file.keys()}
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot read A2P head {path}: {error}") from error
    config = read_own(text, f"metadata of A2P head {path}")
    module = _without_weights(config)
    module.load_state_dict(_fitting(state, config, f"A2P head {path}"), assign=True)
    return module.eval()


def convert(
    checkpoint: Path,
    config: Path,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Converted:
    """Turn a published checkpoint into a file that ``load_head`` reads.

    Args:
        checkpoint: file that torch.save wrote; no code in it is run.
        config: its JSON configuration.
        out: file to write; appears complete or not at all.
        dtype: of the numbers in the file; None keeps them as they are.
        overwrite: whether ``out`` may exist.

    Raises:
        ModelError: checkpoint or configuration is missing, damaged or does not fit the other.
        InputError: ``out`` exists or cannot be written.
    """
    _check_target(out, (checkpoint, config), overwrite)
    shape, state = load_published(checkpoint, config)
    if dtype is not None:
        _cast(state, dtype, str(checkpoint))
    _write(out, shape, state, overwrite)
    return Converted(
        config=shape,
        parameters=sum(tensor.numel() for tensor in state.values()),
        dtypes=tuple(sorted({_dtype_name(tensor) for tensor in state.values()})),
        size_bytes=out.stat().st_size,
    )


def load_published(checkpoint: Path, config: Path) -> tuple[AttentionConfig, dict[str, Tensor]]:
    """Read a published checkpoint and its configuration.

    Returns:
        The shape of the head, and its state dict with finite numbers of the type in the file. The
        tensors of an uncompressed zip archive are mapped into memory, not read.

    Raises:
        ModelError: one of the files is missing, damaged or does not fit the other.
    """
    try:
        text = config.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {config}: {error}") from error
    shape = read_published(text, str(config))
    found = _bare_names(_unpickle(checkpoint), str(checkpoint))
    state = _fitting(found, shape, str(checkpoint))
    _check_finite(state, str(checkpoint))
    return shape, state


def _unpickle(path: Path) -> object:
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_mappable(path))
    except Exception as error:  # damaged pickles end in nearly any exception
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    # Not in torch's words: they include how to run the code in a file that it refuses.
    if isinstance(error, OSError) and error.filename is not None:
        return ModelError(f"cannot read {path}: {error.strerror}")
    reason = "is damaged, or no torch file of"
    if isinstance(error, pickle.UnpicklingError):
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            reason = f"is refused: it asks for {named[1]}, which was not run; a checkpoint may hold"
    return ModelError(f"{path} {reason} nothing but tensors and plain values")


def _mappable(path: Path) -> bool:
    """Whether tensors lie in the file as they are; torch would map compressed ones just so."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def _bare_names(content: object, source: str) -> dict[str, object]:
    found = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ModelError(f"{source} holds a {kind}, not a state dict alone or under 'model'")
    state: dict[str, object] = {}
    for name, value in found.items():
        bare = str(name)
        while bare.startswith(_PREFIX):
            bare = bare.removeprefix(_PREFIX)
        if bare in state:
            raise ModelError(f"{source} holds {bare} more than once, with and without {_PREFIX!r}")
        state[bare] = value
    return state


def _without_weights(config: AttentionConfig) -> AttentionRetriever:
    with torch.device("meta"):
        return AttentionRetriever(config)


def _fitting(
    state: Mapping[str, object], config: AttentionConfig, source: str
) -> dict[str, Tensor]:
    """The tensors of the head; whatever is missing, unexpected or of another shape is an error."""
    shapes = {name: list(t.shape) for name, t in _without_weights(config).state_dict().items()}
    good = {
        name: value.detach()
        for name, value in state.items()
        if isinstance(value, Tensor) and _is_plain(value) and list(value.shape) == shapes.get(name)
    }
    misfits = {
        "missing": [f"{name} {shape}" for name, shape in shapes.items() if name not in state],
        "unexpected": [f"{name} ({_form(v)})" for name, v in state.items() if name not in shapes],
        "wrong": [
            f"{name} ({_form(value)} where {shapes[name]} is expected)"
            for name, value in state.items()
            if name in shapes and name not in good
        ],
    }
    if any(misfits.values()):
        said = "; ".join(f"{kind}: {_some(names)}" for kind, names in misfits.items() if names)
        raise ModelError(f"{source} does not fit {config}: {said}")
    return good


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return dense and tensor.is_floating_point() and tensor.element_size() > 1


def _form(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout == torch.strided else f" {value.layout}"
    return f"{_dtype_name(value)} {list(value.shape)}{layout}"


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(items: Sequence[str]) -> str:
    rest = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _check_finite(state: Mapping[str, Tensor], source: str) -> None:
    # Unlike isfinite, the extremes need no second tensor; those of a tensor with NaN are NaN.
    bad = [
        name
        for name, tensor in state.items()
        if not all(bool(extreme.isfinite()) for extreme in tensor.aminmax())
    ]
    if bad:
        raise ModelError(f"{source} has infinite numbers or NaN in {_some(bad)}")


def _cast(state: dict[str, Tensor], dtype: torch.dtype, source: str) -> None:
    for name in list(state):
        state[name] = state[name].to(dtype)  # one by one: the tensor it was can go
    _check_finite(state, f"{source} as {dtype}")


def _check_target(out: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    if not out.parent.is_dir():
        raise InputError(f"cannot write {out}: there is no directory {out.parent}")
    if not out.exists():
        return
    if any(path.exists() and out.samefile(path) for path in inputs):
        raise InputError(f"cannot write {out}: it is itself to be read")
    if not overwrite:
        raise InputError(f"{out} exists already; --force overwrites it")


def _write(
    path: Path, config: AttentionConfig, state: Mapping[str, Tensor], overwrite: bool
) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        usual = partial.stat().st_mode  # safetensors may make it the owner's alone
        save_file(_apart(state), partial, {"config": json.dumps(asdict(config))})
        partial.chmod(usual)
        # A link, unlike a rename, cannot replace a file that has appeared meanwhile.
        (os.replace if overwrite else os.link)(partial, path)
    except FileExistsError as error:
        raise InputError(f"{path} exists already; --force overwrites it") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory, as safetensors wants them."""
    apart: dict[str, Tensor] = {}
    owned: set[int] = set()
    for name, tensor in state.items():
        shared = tensor.untyped_storage().data_ptr() in owned
        apart[name] = (tensor.clone() if shared else tensor).contiguous()
        owned.add(apart[name].untyped_storage().data_ptr())
    return apart

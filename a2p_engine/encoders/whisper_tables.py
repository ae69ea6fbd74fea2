"""Tables out of CTranslate2's model.bin, without loading the model.

The file is little-endian: u32 version, u16-length-prefixed name of the architecture, u32 revision,
u32 number of variables; then for each variable its u16-length-prefixed name, u8 rank, that many u32
sizes, u8 number type, u32 bytes and the data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from a2p_engine.errors import ModelError

_FLOATS: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 4: np.dtype("<f2")}
_EMBEDDINGS = "decoder/embeddings/weight"


def token_embeddings(directory: Path) -> npt.NDArray[np.float32]:
    """Token embedding table of the decoder, float32 [vocabulary, D].

    Args:
        directory: holds model.bin with float weights.

    Raises:
        ModelError: the file is missing, damaged, or holds no such table.
    """
    path = directory / "model.bin"
    try:
        with path.open("rb") as file:
            return _find(file, _EMBEDDINGS).astype(np.float32)
    except (OSError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"cannot read token embeddings from {path}: {error}") from error


def float_tables(directory: Path) -> dict[str, npt.NDArray[np.float32]]:
    """All float variables by name, as float32; numbers that say how to compute are left out.

    Raises:
        ModelError: the file is missing or damaged, or its weights are quantised.
    """
    path = directory / "model.bin"
    try:
        with path.open("rb") as file:
            found = {name: table for name, table in _variables(file) if table is not None}
    except (OSError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"cannot read weights from {path}: {error}") from error
    if _EMBEDDINGS not in found:
        raise ModelError(f"cannot read weights from {path}: they are quantised, or of another kind")
    return {name: table.astype(np.float32) for name, table in found.items()}


def _find(file: BinaryIO, wanted: str) -> npt.NDArray[Any]:
    for name, table in _variables(file, wanted):
        if name == wanted and table is not None:
            return table
    raise ValueError(f"no variable {wanted}")


def _variables(
    file: BinaryIO, only: str | None = None
) -> Iterator[tuple[str, npt.NDArray[Any] | None]]:
    """Names and tables; None for what is not wanted or, unless it is, holds no floats."""
    _number(file, "I")  # version
    _text(file)
    _number(file, "I")  # revision
    for _ in range(_number(file, "I")):
        name = _text(file)
        shape = [_number(file, "I") for _ in range(_number(file, "B"))]
        kind, size = _number(file, "B"), _number(file, "I")
        if name == only and kind not in _FLOATS:
            raise ValueError(f"{name} holds numbers of type {kind}, not float32 or float16")
        if only not in (None, name) or kind not in _FLOATS:
            file.seek(size, 1)
            yield name, None
        else:
            yield name, np.frombuffer(file.read(size), _FLOATS[kind]).reshape(shape)


def _number(file: BinaryIO, form: str) -> int:
    return int(struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()

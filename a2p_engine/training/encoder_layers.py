"""A Whisper model without the last layers of its encoder, to train heads on an earlier one.

``python -m a2p_engine.training.encoder_layers DIRECTORY KEEP OUT`` copies a model in CTranslate2's
format with the first ``KEEP`` encoder layers only. The final layer norm stays; the decoder stays
too, but no longer understands what it gets: the copy is for ``a2p synthesize`` alone. Call it
``whisper-base`` and set ``$A2P_MODELS_DIR`` to the directory that holds it.
"""

from __future__ import annotations

import re
import shutil
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from a2p_engine.errors import A2PError, ModelError

_FORMAT = 6  # CURRENT_BINARY_VERSION in CTranslate2's specs/model_spec.py, which writes the file
_LAYER = re.compile(rb"^encoder/layer_(\d+)/")


def keep_encoder_layers(directory: Path, keep: int, out: Path) -> int:
    """Copy a model with its first encoder layers.

    Args:
        directory: a Whisper model in CTranslate2's format.
        keep: how many layers stay, at least one.
        out: directory for the copy; made if need be.

    Returns:
        How many layers the model has.

    Raises:
        ModelError: there is no such model, it has fewer layers, or the output is one already.
    """
    if (out / "model.bin").exists():
        raise ModelError(f"{out} holds a model already")
    try:
        with (directory / "model.bin").open("rb") as file:
            head, variables, aliases = _read(file)
    except OSError as error:
        raise ModelError(f"{directory} holds no model in CTranslate2's format: {error}") from error
    layers = {int(found[1]) for name, _ in variables if (found := _LAYER.match(name))}
    if not 1 <= keep <= len(layers):
        raise ModelError(f"{keep} of {len(layers)} encoder layers cannot be kept in {directory}")
    kept = [
        (name, body)
        for name, body in variables
        if not (found := _LAYER.match(name)) or int(found[1]) < keep
    ]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "model.bin").open("wb") as file:
        file.write(head + struct.pack("<I", len(kept)))
        for name, body in kept:
            file.write(struct.pack("<H", len(name)) + name + body)
        file.write(aliases)
    for path in directory.iterdir():
        if path.name != "model.bin":
            shutil.copy(path, out / path.name)
    return len(layers)


def _read(file: BinaryIO) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """What stands before the variables, each variable's name and bytes, what stands behind."""
    version = _exactly(file, 4)
    if version != struct.pack("<I", _FORMAT):
        raise ModelError(f"{file.name} is not in format {_FORMAT} of CTranslate2")
    head = version + _string(file) + _exactly(file, 4)
    (count,) = struct.unpack("<I", _exactly(file, 4))
    return head, list(_variables(file, count)), file.read()


def _variables(file: BinaryIO, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Name and body (rank, shape, type, size, numbers) of each."""
    for _ in range(count):
        name = _string(file)[2:]
        rank = _exactly(file, 1)
        shape_and_type = _exactly(file, 4 * rank[0] + 1)
        size = _exactly(file, 4)
        yield name, rank + shape_and_type + size + _exactly(file, *struct.unpack("<I", size))


def _string(file: BinaryIO) -> bytes:
    """Two bytes of length and the string, as they stand."""
    length = _exactly(file, 2)
    return length + _exactly(file, *struct.unpack("<H", length))


def _exactly(file: BinaryIO, n_bytes: int) -> bytes:
    read = file.read(n_bytes)
    if len(read) < n_bytes:
        raise ModelError(f"{file.name} ends early")
    return read


def main(arguments: Sequence[str]) -> int:
    """Copy a model and say so; the exit status is 2 where that cannot be done."""
    if len(arguments) != 3 or not arguments[1].isdecimal():
        print("expected a directory, a number of layers and a new directory", file=sys.stderr)
        return 2
    directory, keep, out = arguments
    try:
        layers = keep_encoder_layers(Path(directory), int(keep), Path(out))
    except A2PError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{out}: the first {keep} of {layers} encoder layers")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

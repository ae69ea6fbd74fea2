"""Files inside tar archives, read where they lie: nothing is unpacked, no name becomes a path."""

from __future__ import annotations

import tarfile
from functools import lru_cache
from pathlib import Path

from a2p_engine.errors import InputError

# Far more than any utterance; a header that lies about a size cannot make us reserve more.
MOST_BYTES = 1 << 30
_OPEN_INDICES = 64  # of archives; a set is spread over tens of them


class TarMembers:
    """Random access to the regular files of an uncompressed tar archive.

    The headers are read once, what lies between them is skipped.
    """

    def __init__(self, path: Path) -> None:
        """Index the archive.

        Raises:
            InputError: it cannot be read, is compressed or is no tar archive.
        """
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}  # name to first byte and length
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    # Links and devices lead elsewhere, and a sparse file's bytes are not in a row.
                    if member.isreg() and not member.issparse():
                        self._places[member.name] = member.offset_data, member.size
        except tarfile.TarError as error:
            raise InputError(
                f"{path}: {error}; uncompressed tar archives are accepted, since members are read "
                "in any order"
            ) from error
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._places)

    def read(self, name: str) -> bytes:
        """The bytes of a member; of several with one name the last, as in tar.

        Raises:
            InputError: there is no regular file of that name, it is too large or it is cut off.
        """
        place = self._places.get(name)
        if place is None:
            raise InputError(f"{self.path} holds no regular file {name!r}")
        begin, size = place
        if size > MOST_BYTES:
            raise InputError(f"{name!r} in {self.path} has {size} bytes; at most {MOST_BYTES}")
        try:
            with self.path.open("rb") as file:
                file.seek(begin)
                data = file.read(size)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error
        if len(data) < size:
            raise InputError(f"{self.path} ends inside {name!r}")
        return data


@lru_cache(maxsize=_OPEN_INDICES)
def open_tar(path: Path) -> TarMembers:
    """The index of an archive, made once per process; errors as of ``TarMembers``."""
    return TarMembers(path)

"""A package: a ZIP file of a few members that are stored as they are, without compression.

Nothing is read before its size is known to lie within the file, so a package never takes more memory than its own size.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hybrid.errors import InputError

__all__ = ["Package", "PackageError", "open_package"]

_END, _END_BYTES = b"PK\x05\x06", 22
_END64, _END64_BYTES = b"PK\x06\x06", 56
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_MOST_DIRECTORY_BYTES = 4096
"""Of the list of members at the end. That of three members takes some 200."""

_LOCAL_BYTES = 30
"""Before each member, and then its name."""

_ENCRYPTED = 1


class PackageError(InputError):
    """A file is no package, or not one of the members that it should have."""


@dataclass(frozen=True, slots=True)
class Package:
    """An open package.

    Attributes:
        sizes: bytes of each member.
    """

    sizes: Mapping[str, int]
    _file: zipfile.ZipFile

    def read(self, name: str, *, most: int | None = None) -> bytes:
        """The content of a member.

        Raises:
            PackageError: it has more than ``most`` bytes.
            zipfile.BadZipFile, EOFError: it is not what was written.
        """
        if most is not None and self.sizes[name] > most:
            raise PackageError(f"{name} has {self.sizes[name]} bytes; at most {most} are read")
        return self._file.read(name)


@contextmanager
def open_package(path: Path, names: Sequence[str]) -> Iterator[Package]:
    """Open a package that holds exactly these members, all of them stored without compression.

    Raises:
        OSError: the file cannot be read.
        PackageError: it may be a ZIP file, but holds other members, or they are compressed or lie over each other.
        zipfile.BadZipFile: it is no ZIP file, or it is cut or damaged.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise PackageError("it is no regular file")  # opening a named pipe waits for its writer
    with path.open("rb") as raw:
        size = raw.seek(0, 2)
        _check_directory(raw, size)
        with zipfile.ZipFile(raw) as file:
            _check_members(file.infolist(), names, size)
            yield Package({info.filename: info.file_size for info in file.infolist()}, file)


def _check_directory(raw: BinaryIO, size: int) -> None:
    """Refuse a list of members that is long: zipfile makes an object of some 500 bytes of each."""
    raw.seek(max(0, size - _END_BYTES))
    end = raw.read(_END_BYTES)
    if len(end) < _END_BYTES or end[:4] != _END:
        raise zipfile.BadZipFile("no list of members at the end")
    directory = struct.unpack("<I", end[12:16])[0]
    raw.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES))
    if raw.read(4) == _LOCATOR:  # a package of more than 2 GB
        raw.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES - _END64_BYTES))
        end64 = raw.read(_END64_BYTES)
        if end64[:4] != _END64:
            raise zipfile.BadZipFile("no list of members before its locator")
        directory = struct.unpack("<Q", end64[40:48])[0]
    if directory > _MOST_DIRECTORY_BYTES:
        raise PackageError(f"its list of members takes {directory} bytes; at most {_MOST_DIRECTORY_BYTES} are read")


def _check_members(members: Sequence[zipfile.ZipInfo], names: Sequence[str], size: int) -> None:
    found = [info.filename for info in members]
    lacking = [name for name in names if name not in found]
    if lacking:
        raise PackageError(f"it holds no {lacking[0]}")
    if len(found) != len(names):
        extra = next(name for index, name in enumerate(found) if name not in names or name in found[:index])
        raise PackageError(f"it holds {ascii(extra)[:120]}, too, which does not belong there")
    end = 0
    for info in sorted(members, key=lambda info: info.header_offset):
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
            raise PackageError(f"{info.filename} is compressed or encrypted; members are stored as they are")
        if info.header_offset < end or info.file_size != info.compress_size:
            raise PackageError(f"{info.filename} does not lie where the list of members says")
        end = info.header_offset + _LOCAL_BYTES + len(info.filename.encode()) + info.file_size
    if end > size:
        raise PackageError(f"its members take {end} of {size} bytes")

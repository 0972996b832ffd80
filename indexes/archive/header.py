"""``archive.json``: what makes a folder an archive, and how one is made."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from hybrid.errors import ArchiveError, ArchiveFormatError, InputError
from hybrid.storage.atomic import is_temporary, remove_temporaries, write_atomically, write_errors
from hybrid.storage.foreign_json import ForeignJsonError, parse_json
from hybrid.storage.locks import Locks
from hybrid.version import __version__
from indexes.format.layout import Layout
from indexes.format.manifest import FORMAT_VERSION
from indexes.stores.registry import STORES, check_backend

__all__ = ["Header", "new_header", "open_header", "parse_header", "read_header"]

_CREATION_TIMEOUT_SECONDS = 60.0


class Header(BaseModel):
    """Content of ``archive.json``."""

    model_config = ConfigDict(frozen=True)

    format_version: int
    backend: str
    created_by: str

    def to_bytes(self) -> bytes:
        """The content of the file."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def new_header(backend: str) -> Header:
    """The header of an archive that this version makes."""
    return Header(format_version=FORMAT_VERSION, backend=backend, created_by=f"hybrid {__version__}")


def open_header(layout: Layout, *, backend: str | None, create: bool) -> Header:
    """Read an archive's header; make the archive if there is none and ``create`` is set.

    Raises:
        InputError: the backend is not known.
        ArchiveFormatError: no archive, or one of another backend or a newer format; see
            :meth:`indexes.archive.writer.Archive.open`.
        ArchiveLockedError: another process takes very long to make the same archive.
    """
    if backend is not None:
        check_backend(backend)
    header = read_header(layout)
    if header is None:
        header = _create(layout, backend or STORES.names[0], create=create)
    if backend is not None and header.backend != backend:
        raise ArchiveFormatError(
            f"{layout.folder}: this archive's backend is {header.backend!r}, not {backend!r}; "
            f"leave the backend out to use it as it is, or choose another folder for a {backend!r} archive"
        )
    return header


def read_header(layout: Layout) -> Header | None:
    """The header in an archive's folder; None if there is none.

    Raises:
        ArchiveFormatError: it is no header, or one of a newer format.
        ArchiveError: it cannot be read.
    """
    path = layout.header
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise ArchiveError(f"{path}: cannot be read: {exc.strerror}") from exc
    return parse_header(data, where=str(path))


def parse_header(data: bytes, *, where: str) -> Header:
    """The header that a file's content is.

    Args:
        data: content of the file.
        where: its path, for the error.

    Raises:
        ArchiveFormatError: it is no header, or one of a newer format.
    """
    try:
        document = parse_json(data, where=where)
    except ForeignJsonError as exc:
        raise ArchiveFormatError(f"{exc}; this is not the header of an archive") from exc
    _check_version(where, document)
    try:
        header = Header.model_validate(document)
        check_backend(header.backend)
    except ValidationError as exc:
        raise ArchiveFormatError(f"{where}: not the header of an archive: {exc.errors()[0]['msg']}") from exc
    except InputError as exc:
        raise ArchiveFormatError(f"{where}: {exc}; register it, or run: pip install --upgrade hybrid") from exc
    return header


def _check_version(where: str, document: object) -> None:
    """Before the rest is looked at: a newer format may have any other fields."""
    if not isinstance(document, dict) or "format_version" not in document:
        raise ArchiveFormatError(f"{where}: not the header of an archive: no format version in it")
    version = document["format_version"]
    if type(version) is not int or version < 1:
        raise ArchiveFormatError(f"{where}: format version is {version!r}; it must be a number from 1 on")
    if version > FORMAT_VERSION:
        raise ArchiveFormatError(
            f"{where}: format version is {version}, and hybrid {__version__} reads up to {FORMAT_VERSION}; "
            "run: pip install --upgrade hybrid"
        )


def _create(layout: Layout, backend: str, *, create: bool) -> Header:
    if not create:
        raise ArchiveFormatError(
            f"{layout.folder}: there is no archive here; make one with: hybrid index VIDEO --archive {layout.folder}"
        )
    _check_empty(layout)
    with Locks(layout.locks).take("archive", what=f"archive {layout.folder}", timeout=_CREATION_TIMEOUT_SECONDS):
        # Another process may have made it while we waited.
        header = read_header(layout)
        if header is None:
            remove_temporaries(layout.folder)
            header = new_header(backend)
            with write_errors(f"archive {layout.folder} cannot be made"):
                write_atomically(layout.header, header.to_bytes())
    return header


def _check_empty(layout: Layout) -> None:
    """Never make an archive among other files; what a killed creation left behind may lie there."""
    if not layout.folder.exists():
        return
    if not layout.folder.is_dir():
        raise ArchiveFormatError(f"{layout.folder}: this is a file; an archive is a folder")
    for entry in layout.folder.iterdir():
        if entry == layout.locks or is_temporary(entry.name):
            continue
        # The header is an archive's first file, so whatever another opener put here since we looked for one
        # came after it.
        if layout.header.exists():
            return
        raise ArchiveFormatError(
            f"{layout.folder}: this folder is not an archive and not empty (it holds {entry.name!r}); "
            "choose a new or an empty folder"
        )

"""Indexes that leave an archive and come into another: one video as a file, or all of them.

An export is a ZIP file without compression: ``manifest.json`` and ``timeline.safetensors`` as they
lie in the archive, and ``vectors.f16``, the little-endian float16 values row after row, whatever the
backend. The hashes in the manifest hold for all three, so what comes in is what went out.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hybrid.errors import ArchiveError, HybridError, IndexDamagedError, IndexMismatchError, InputError
from hybrid.formatting import plural
from hybrid.storage.atomic import write_atomically, write_errors
from hybrid.storage.foreign_json import JsonLimits
from hybrid.storage.package import PackageError, open_package
from hybrid.values import Float32Array
from indexes.archive.new_index import check_parts
from indexes.archive.reader import ArchiveReader
from indexes.archive.writer import Archive
from indexes.format.feature_list import frames_key, read_list
from indexes.format.layout import Layout
from indexes.format.manifest import Manifest, parse_manifest

__all__ = ["Export", "copy_index", "export_index", "import_index", "read_export"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_BEGINS = b"PK"
_COPIED_AT_ONCE = 1 << 20
_LEGAL = "give a file that hybrid export wrote"
_DAMAGED = "this exported index is cut or damaged; copy it again, or write it again with hybrid export"
_MANIFEST, _TIMELINE, _VECTORS = "manifest.json", "timeline.safetensors", "vectors.f16"
_HEADER_BYTES = 2**16
_REASON_BYTES = 2**13


def export_index(archive: ArchiveReader, manifest: Manifest, path: Path) -> int:
    """Write the index of one video into a file; how many bytes it has. Features are not part of it.

    The same index gives the same bytes.

    Raises:
        IndexDamagedError: the index is not what was written.
        VideoNotIndexedError: another process has replaced or removed it.
        ArchiveError: the file cannot be written.
    """
    archive.verify(manifest.video_id)
    parts = {
        _MANIFEST: manifest.to_bytes(),
        _TIMELINE: archive.timeline_file(manifest),
        _VECTORS: archive.read(manifest).astype("<f2").tobytes(),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, data in parts.items():
            file.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    try:
        write_atomically(path.absolute(), buffer.getvalue())
    except OSError as exc:
        raise ArchiveError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    return buffer.tell()


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """An exported index as it was read: whole, and of one piece.

    Attributes:
        path: of the file.
        manifest: of the index.
        timeline: content of its timeline file.
        vectors: float32 [N, D].
    """

    path: Path
    manifest: Manifest
    timeline: bytes
    vectors: Float32Array


def read_export(path: Path) -> Export:
    """Read a file that :func:`export_index` wrote, and compare its parts with each other.

    Raises:
        InputError: there is no such file, or it cannot be read.
        IndexDamagedError: the file is not such an export, or not what was written.
    """
    try:
        with open_package(path, (_MANIFEST, _TIMELINE, _VECTORS)) as members:
            data = members.read(_MANIFEST, most=JsonLimits().size)
            manifest = parse_manifest(data, where=f"{path}: {_MANIFEST}")
            _check_sizes(members.sizes, manifest, path)
            timeline, values = members.read(_TIMELINE), members.read(_VECTORS)
        stored = np.frombuffer(values, dtype="<f2").reshape(manifest.frames, manifest.dimension)
        vectors = stored.astype(np.float32)
        check_parts(manifest, timeline=timeline, vectors=vectors)
    except FileNotFoundError as exc:
        raise InputError(f"{path}: there is no such file; {_LEGAL}") from exc
    except (IsADirectoryError, PermissionError) as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}; {_LEGAL}") from exc
    except PackageError as exc:
        raise IndexDamagedError(f"{path}: this is a ZIP file, but not an exported index: {exc}; {_LEGAL}") from exc
    except InputError as exc:
        raise IndexDamagedError(f"{path}: {exc}") from exc
    except HybridError:
        raise
    except Exception as exc:  # zipfile answers damage with errors of a dozen kinds
        raise IndexDamagedError(f"{path}: {_fault(path)}") from exc
    return Export(path, manifest, timeline, vectors)


def _check_sizes(sizes: Mapping[str, int], manifest: Manifest, path: Path) -> None:
    """Refuse members of other sizes than the manifest makes them, before they are read."""
    vectors = 2 * manifest.frames * manifest.dimension
    if sizes[_VECTORS] != vectors:
        raise IndexDamagedError(f"{path}: {_VECTORS} has {sizes[_VECTORS]} bytes; the manifest says {vectors}")
    # Three values of 8 bytes a frame; of a missing sample its number, and the reason as text.
    least = 24 * manifest.frames + 8 * manifest.missing
    most = least + _HEADER_BYTES + _REASON_BYTES * manifest.missing
    if not least <= sizes[_TIMELINE] <= most:
        raise IndexDamagedError(
            f"{path}: {_TIMELINE} has {sizes[_TIMELINE]} bytes; of {plural(manifest.frames, 'frame')} it has "
            f"{least} to {most}"
        )


def _fault(path: Path) -> str:
    """Why a file is no exported index: something else, or cut or altered."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(_BEGINS))
        if not begins:
            return f"the file is empty; {_LEGAL}"
        if begins != _BEGINS:
            return f"this is not an exported index; {_LEGAL}"
    except OSError:
        return _DAMAGED
    return _DAMAGED


def import_index(archive: Archive, export: Export, *, replace: bool = False) -> tuple[Manifest, bool]:
    """Take the index of one video in.

    Args:
        archive: where it is to go.
        export: what :func:`read_export` gave.
        replace: put it in the place of another index of the same video.

    Returns:
        What came in, and whether it was not there before.

    Raises:
        IndexMismatchError: there is another index of this video, and ``replace`` is off.
        ArchiveLockedError: another process writes this video.
        ArchiveError: the archive cannot be written.
    """
    manifest = export.manifest
    current = archive.manifest(manifest.video_id)
    if current is not None and _same(current, manifest):
        return current, False
    if current is not None and not replace:
        raise IndexMismatchError(_another(archive, current))
    _adopt(archive, manifest, export.timeline, export.vectors, where=str(export.path))
    return manifest, True


def _another(archive: Archive, current: Manifest) -> str:
    return (
        f"archive {archive.uri} holds another index of {current.source.path} "
        f"({plural(current.frames, 'frame')}, {current.created_at}); to put this one in its place, add --replace"
    )


def copy_index(source: ArchiveReader, target: Archive, manifest: Manifest, *, replace: bool = False) -> bool:
    """Bring the index of one video, with the features of its frames, into another archive, of any backend.

    Args:
        source: holds the index.
        target: where it is to go.
        manifest: of the index.
        replace: put it in the place of another index of the same video.

    Returns:
        Whether there was anything to do.

    Raises:
        IndexMismatchError: the target holds another index of this video, and ``replace`` is off.
        IndexDamagedError: the index is not what was written, or a file with features cannot be read.
        VideoNotIndexedError: another process has replaced or removed it.
        ArchiveLockedError, ArchiveError: the target cannot be written.
    """
    fresh = False
    current = target.manifest(manifest.video_id)
    if current is None or not _same(current, manifest):
        if current is not None and not replace:
            raise IndexMismatchError(_another(target, current))
        source.verify(manifest.video_id)
        _adopt(target, manifest, source.timeline_file(manifest), source.read(manifest), where=source.uri)
        fresh = True
    return _copy_features(source, target, manifest) or fresh


def _same(current: Manifest, manifest: Manifest) -> bool:
    return (current.generation, current.fingerprint) == (manifest.generation, manifest.fingerprint)


def _adopt(archive: Archive, manifest: Manifest, timeline: bytes, vectors: Float32Array, *, where: str) -> None:
    try:
        archive.adopt(manifest, timeline=timeline, vectors=vectors)
    except InputError as exc:
        raise IndexDamagedError(f"{where}: {exc}") from exc


def _copy_features(source: ArchiveReader, target: Archive, manifest: Manifest) -> bool:
    """Copy what is stored of GenS's features of an index's frames; whether there was anything to copy.

    A list is read before its values and written after them: what it names is there. Lists that are dropped
    meanwhile or damaged stay behind, since features are made anew where they are needed.

    Raises:
        IndexDamagedError: a file of the source is there and cannot be read.
        ArchiveLockedError, ArchiveError: the target cannot be written.
    """
    folder = Layout(target.folder).video(manifest.video_id)
    missing: list[tuple[Path, bytes, Path]] = []
    for path in Layout(source.folder).feature_lists(manifest.video_id, frames_key(manifest)):
        data = _read(path)
        values = None if data is None or _holds(folder / path.name, data) else _values_of(path, data)
        if data is not None and values is not None:
            missing.append((folder / path.name, data, values))
    if not missing:
        return False
    copied = False
    with write_errors(f"archive {target.uri}: features cannot be written"), target.lock(manifest.video_id):
        for listing, data, values in missing:
            if _copy(values, folder / values.name):
                write_atomically(listing, data)
                copied = True
    return copied


def _values_of(path: Path, data: bytes) -> Path | None:
    """The file with the values of a list; None if the list is damaged."""
    try:
        return path.with_name(read_list(data, where=str(path)).values_name)
    except IndexDamagedError:
        return None


def _read(path: Path) -> bytes | None:
    """A file of the source; None if it does not exist."""
    with _reading(path), contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of which file it is that it cannot be read, so that it is not taken for one that cannot be written."""
    try:
        yield
    except OSError as exc:
        raise IndexDamagedError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _copy(path: Path, target: Path) -> bool:
    """Copy a file of the source; whether it was still there."""
    file = _opened(path)
    if file is None:
        return False
    with file:
        write_atomically(target, _blocks(file, path))
    return True


def _opened(path: Path) -> BinaryIO | None:
    with _reading(path), contextlib.suppress(FileNotFoundError):
        return path.open("rb")
    return None


def _blocks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    with _reading(path):
        while data := file.read(_COPIED_AT_ONCE):
            yield data

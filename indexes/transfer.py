"""Indexes that leave an archive and come into another: one video as a file, or all of them.

An export is a ZIP file without compression: ``manifest.json`` and ``timeline.safetensors`` as they
lie in the archive, and ``vectors.f16``, the little-endian float16 values row after row, whatever the
backend. The hashes in the manifest hold for all three, so what comes in is what went out.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid.errors import ArchiveError, HybridError, IndexDamagedError, IndexMismatchError, InputError
from hybrid.values import Float32Array
from hybrid.words import counted
from indexes.archive import Archive, check_parts
from indexes.atomic import make_folder, remove_file, sync_folder, write_atomically
from indexes.manifest import Manifest, check_digest, parse_manifest
from indexes.paths import Layout
from indexes.reader import ArchiveReader

__all__ = ["Export", "copy_index", "export_index", "import_index", "read_export"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_BEGINS = b"PK"
_LEGAL = "give a file that hybrid export wrote"
_DAMAGED = "this exported index is cut or damaged; copy it again, or write it again with hybrid export"
_MANIFEST, _TIMELINE, _VECTORS = "manifest.json", "timeline.safetensors", "vectors.f16"


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
        with zipfile.ZipFile(path) as file:
            data, timeline, values = (file.read(name) for name in (_MANIFEST, _TIMELINE, _VECTORS))
        manifest = parse_manifest(data, video_id=str(json.loads(data)["video_id"]), where=f"{path}: {_MANIFEST}")
        check_digest(data, where=f"{path}: {_MANIFEST}")
        stored = np.frombuffer(values, dtype="<f2").reshape(manifest.frames, manifest.dimension)
        vectors = stored.astype(np.float32)
        check_parts(manifest, timeline=timeline, vectors=vectors)
    except FileNotFoundError as exc:
        raise InputError(f"{path}: there is no such file") from exc
    except (IsADirectoryError, PermissionError) as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}; {_LEGAL}") from exc
    except InputError as exc:
        raise IndexDamagedError(f"{path}: {exc}") from exc
    except HybridError:
        raise
    except Exception as exc:  # zipfile answers damage with errors of a dozen kinds
        raise IndexDamagedError(f"{path}: {_fault(path)}") from exc
    return Export(path, manifest, timeline, vectors)


def _fault(path: Path) -> str:
    """Why a file is no exported index: something else, or cut or altered."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(_BEGINS))
        if not begins:
            return f"the file is empty; {_LEGAL}"
        if begins != _BEGINS:
            return f"this is not an exported index; {_LEGAL}"
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                lacking = {_MANIFEST, _TIMELINE, _VECTORS}.difference(parts.namelist())
            if lacking:
                return f"this is a ZIP file, but not an exported index: it holds no {min(lacking)}; {_LEGAL}"
    except Exception:  # as above
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
        f"archive {archive.place} holds another index of {current.source.path} "
        f"({counted(current.frames, 'frame')}, {current.created_at}); to put this one in its place, add --replace"
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
        IndexDamagedError: the index is not what was written.
        VideoNotIndexedError: another process has replaced or removed it.
        ArchiveLockedError, ArchiveError: the target cannot be written.
    """
    fresh = False
    current = target.manifest(manifest.video_id)
    if current is None or not _same(current, manifest):
        if current is not None and not replace:
            raise IndexMismatchError(_another(target, current))
        source.verify(manifest.video_id)
        _adopt(target, manifest, source.timeline_file(manifest), source.read(manifest), where=source.place)
        fresh = True
    return _copy_features(source, target, manifest.video_id) or fresh


def _same(current: Manifest, manifest: Manifest) -> bool:
    return (current.generation, current.fingerprint) == (manifest.generation, manifest.fingerprint)


def _adopt(archive: Archive, manifest: Manifest, timeline: bytes, vectors: Float32Array, *, where: str) -> None:
    try:
        archive.adopt(manifest, timeline=timeline, vectors=vectors)
    except InputError as exc:
        raise IndexDamagedError(f"{where}: {exc}") from exc


def _copy_features(source: ArchiveReader, target: Archive, video_id: str) -> bool:
    """Copy the files with GenS's features. The lists are read first and written last: what they name is there."""
    old, new = Layout(source.folder), Layout(target.folder)
    lists = {path.name: path.read_bytes() for path in old.feature_lists(video_id)}
    wanted = {name: data for name, data in lists.items() if not _holds(new.video(video_id) / name, data)}
    if not wanted:
        return False
    try:
        with target.lock(video_id):
            for path in old.feature_values(video_id):
                _copy_atomically(path, new.video(video_id) / path.name)
            for name, data in wanted.items():
                write_atomically(new.video(video_id) / name, data)
    except OSError as exc:
        raise ArchiveError(f"archive {target.place}: features cannot be written: {exc.strerror or exc}") from exc
    return True


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _copy_atomically(path: Path, target: Path) -> None:
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.tmp-{secrets.token_hex(4)}")
    try:
        shutil.copyfile(path, temporary)
        handle = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, target)
    except BaseException:
        remove_file(temporary)
        raise
    sync_folder(target.parent)

"""All manifests of an archive in one file, so that ten thousand videos are known at once.

``cache/catalogue``, a copy: the manifests remain what counts, and the file may be deleted at any
time. A line of it is believed only if its checksum is right, the manifest's size and time of change
are still those that the line states, and nobody is writing the video (``pending/``); every other
video's manifest is read. So no kill, no copying of the folder and no other program that writes
manifests can make the catalogue wrong, only slower.

A writer adds a line behind each manifest that it has written, whatever the size of the archive. When
outdated lines outweigh the rest, the file is written anew.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import blake3

from hybrid.errors import ArchiveError, IndexDamagedError
from hybrid.storage.atomic import make_folder, write_atomically
from hybrid.storage.locks import Locks
from indexes.format.layout import Layout
from indexes.format.manifest import Manifest, parse_manifest

__all__ = ["CatalogueReader", "CatalogueWriter", "ManifestStamp", "stamp_of_manifest"]

_MAGIC = b"hybrid catalogue 1"
_LOCK_SECONDS = 10.0
_SPARE_BYTES = 2**20
"""Below this size a catalogue is never written anew."""


class ManifestStamp(NamedTuple):
    """What shows that a manifest file is still the one that was read."""

    size_bytes: int
    changed_ns: int


class _Line(NamedTuple):
    stamp: ManifestStamp
    text: bytes


def stamp_of_manifest(path: str | Path) -> ManifestStamp | None:
    """The stamp of a manifest file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return ManifestStamp(status.st_size, status.st_mtime_ns)


class CatalogueReader:
    """The catalogue as a reader sees it. Reads what was added since the last time, and only that."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.catalogue
        self._lines: dict[str, _Line] = {}
        self._parsed: dict[str, Manifest] = {}
        self._inode = -1
        self._read_bytes = 0

    def refresh(self) -> None:
        """Read what writers have added. What cannot be read counts as not there."""
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._read_bytes:
                    self._lines, self._parsed, self._inode, self._read_bytes = {}, {}, status.st_ino, 0
                file.seek(self._read_bytes)
                data = file.read()
        except OSError:
            self._lines, self._parsed, self._inode, self._read_bytes = {}, {}, -1, 0
            return
        # A line without its end is being written, or was cut: the next reading sees it again.
        whole = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for text in whole.split(b"\n"):
            found = _parse(text)
            if found is not None:
                self._lines[found[0]] = found[1]
                self._parsed.pop(found[0], None)

    def known(self, video_id: str, stamp: ManifestStamp) -> Manifest | None:
        """The manifest of a video whose manifest file has this stamp, if the catalogue holds it."""
        line = self._lines.get(video_id)
        if line is None or line.stamp != stamp:
            return None
        if video_id in self._parsed:
            return self._parsed[video_id]
        try:
            manifest = parse_manifest(line.text, video_id=video_id, where=str(self._path), signed=False)
        except IndexDamagedError:
            return None
        self._parsed[video_id] = manifest
        return manifest

    def current_lines(self, layout: Layout) -> dict[str, bytes]:
        """Whole lines, by video, that still are what the manifest files say."""
        return {
            video_id: _to_line(video_id, line)
            for video_id, line in self._lines.items()
            if stamp_of_manifest(layout.manifest(video_id)) == line.stamp
        }


class CatalogueWriter:
    """Keeps the catalogue up; what goes wrong with it costs readers time and nothing else."""

    def __init__(self, layout: Layout, locks: Locks) -> None:
        self._layout = layout
        self._locks = locks
        self._noted: dict[str, bytes] = {}

    def note(self, manifest: Manifest) -> None:
        """Add a video's manifest as it is on disk. Under the video's lock, before its mark in ``pending/`` goes."""
        stamp = stamp_of_manifest(self._layout.manifest(manifest.video_id))
        if stamp is None:
            return
        line = _to_line(manifest.video_id, _Line(stamp, _compact(manifest)))
        # Not the stamp alone: two manifests may be written within one tick of the file system's clock.
        if self._noted.get(manifest.video_id) == line:
            return
        # A catalogue that cannot be written is one that is read past.
        with contextlib.suppress(OSError, ArchiveError), self._writing():
            self._append(line)
            self._noted[manifest.video_id] = line

    def rewrite(self) -> None:
        """Write the catalogue anew, from the manifests, without what is outdated.

        Raises:
            OSError, ArchiveError: it cannot be written.
        """
        with self._writing():
            self._rewrite()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        what = f"the catalogue of archive {self._layout.folder}"
        return self._locks.take("catalogue", what=what, timeout=_LOCK_SECONDS)

    def _append(self, line: bytes) -> None:
        path = self._layout.catalogue
        make_folder(path.parent)
        with open(path, "a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            base = _base_bytes(file.read(64).partition(b"\n")[0]) if size else 0
            if size:
                file.seek(size - 1)
                # Behind what a killed writer left of a line.
                line = line if file.read(1) == b"\n" else b"\n" + line
            else:
                line = _header(0) + line
            file.write(line)
        if size + len(line) > 3 * base + _SPARE_BYTES:
            self._rewrite()

    def _rewrite(self) -> None:
        reader = CatalogueReader(self._layout)
        reader.refresh()
        lines = reader.current_lines(self._layout)
        for name in set(self._layout.video_ids()) - lines.keys():
            fresh = self._read(name)
            if fresh is not None:
                lines[name] = fresh
        body = b"".join(lines[name] for name in sorted(lines))
        write_atomically(self._layout.catalogue, _header(len(body)) + body)

    def _read(self, name: str) -> bytes | None:
        """The line of a manifest that the catalogue did not hold; None for one that is being written or damaged."""
        with contextlib.suppress(ArchiveError, OSError, ValueError):
            path = self._layout.manifest(name)
            stamp = stamp_of_manifest(path)
            if stamp is None or (self._layout.pending / name).exists():
                return None
            manifest = parse_manifest(path.read_bytes(), video_id=name, where=str(path))
            if stamp_of_manifest(path) == stamp:
                return _to_line(name, _Line(stamp, _compact(manifest)))
        return None


def _compact(manifest: Manifest) -> bytes:
    return json.dumps(manifest.model_dump(mode="json"), separators=(",", ":")).encode()


def _header(base: int) -> bytes:
    return b"%s %d\n" % (_MAGIC, base)


def _base_bytes(header: bytes) -> int:
    """How large the catalogue was when it was last written anew."""
    parts = header.split()
    return int(parts[-1]) if header.startswith(_MAGIC) and parts[-1].isdigit() else 0


def _to_line(video_id: str, line: _Line) -> bytes:
    rest = b"%s %d %d %s" % (video_id.encode(), line.stamp.size_bytes, line.stamp.changed_ns, line.text)
    return blake3.blake3(rest).hexdigest(length=8).encode() + b" " + rest + b"\n"


def _parse(line: bytes) -> tuple[str, _Line] | None:
    digest, _, rest = line.partition(b" ")
    if len(digest) != 16 or blake3.blake3(rest).hexdigest(length=8).encode() != digest:
        return None
    try:
        video_id, size, changed, text = rest.split(b" ", 3)
        return video_id.decode(), _Line(ManifestStamp(int(size), int(changed)), text)
    except ValueError:
        return None

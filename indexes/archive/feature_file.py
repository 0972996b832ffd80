"""The values of stored features: written behind what is there, read through a memory map.

A file of values only grows. What counts is what the list beside it names (:mod:`indexes.format.feature_list`),
and the list is replaced after the values are on disk; so a writer that is killed leaves nothing but
bytes behind the end, which the next one writes over. Every row that is read is compared with its
digest before it is given away.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from hybrid.errors import IndexDamagedError, InputError
from hybrid.storage.atomic import Stamp, file_stamp, make_folder, remove_file, sync_folder, write_atomically
from hybrid.values import ByteArray, IntArray
from indexes.format.feature_list import (
    FeatureItem,
    FeatureList,
    FeatureSpec,
    ItemLocation,
    frames_key,
    item_digest,
    read_list,
)
from indexes.format.layout import Layout, feature_list_name, feature_values_name
from indexes.format.manifest import Manifest

__all__ = [
    "StagedFeatures",
    "StoredFeatures",
    "append_features",
    "open_features",
    "read_sound_list",
    "remove_features",
    "stamp_of",
]

FileStamps = tuple[Stamp, Stamp]
"""Of a list, and of its values."""


class StoredFeatures:
    """The stored features of one video under one spec, open for reading.

    What is read was compared with its digest, once for as long as the files do not change.
    """

    def __init__(self, listed: FeatureList, path: Path, stamp: FileStamps) -> None:
        """Not for callers: see :func:`open_features`."""
        self.listed = listed
        self.path = path
        self.stamp = stamp
        self._file: BinaryIO = path.open("rb")
        try:
            size = min(listed.size_bytes, os.fstat(self._file.fileno()).st_size)
            self._map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        except BaseException:
            self._file.close()
            raise
        self._sound = np.zeros(len(listed), dtype=bool)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which rows are stored: bool [rows of the index]. Some of them may turn out to be damaged."""
        return self.listed.present

    def read(self, rows: IntArray) -> dict[int, FeatureItem]:
        """The features of those of the rows that are stored and are what was written.

        Args:
            rows: int64, in any order.

        Returns:
            Row -> item, whose values are the caller's own. A row that is absent although
            :attr:`present` names it is damaged.
        """
        # A map reaches as far as the file did when it was made. Reading one beyond the end of a file
        # that was cut since would kill the process.
        size = os.fstat(self._file.fileno()).st_size if self._map is not None else 0
        found: dict[int, FeatureItem] = {}
        for row in rows.tolist():
            if self.listed.starts[row] < 0:
                continue
            item = self._item(row, size)
            if item is not None:
                found[row] = item
        return found

    def sound(self, rows: IntArray) -> npt.NDArray[np.bool_]:
        """Which of the rows are stored and are what was written: bool, one a row."""
        return np.array([bool(self.read(rows[at : at + 1])) for at in range(len(rows))], dtype=bool)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._map is not None:
            self._map.close()
            self._map = None
        self._file.close()

    def _item(self, row: int, size: int) -> FeatureItem | None:
        location = self.listed.location(row)
        end = location.start + self.listed.spec.item_bytes(location.grid)
        if self._map is None or end > min(size, len(self._map)):
            return None
        # A copy: the view of the map that it is made from must not outlive the map.
        values: ByteArray = np.frombuffer(self._map, np.uint8, end - location.start, location.start).copy()
        if not self._sound[row]:
            if item_digest(location.grid, values) != location.digest:
                return None
            self._sound[row] = True
        return FeatureItem(location.grid, values, location.digest)


def open_features(path: Path, *, rows: int, frames: str) -> StoredFeatures | None:
    """Open what is stored; None if there is nothing.

    Args:
        path: of the list.
        rows: of the video's index.
        frames: key of its frames.

    Raises:
        IndexDamagedError: list or values cannot be read, or are those of other frames.
    """
    while True:
        try:
            # In this order: a list that is replaced in between is then taken for old, and read again.
            listing, data = file_stamp(path), path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise IndexDamagedError(f"{path}: cannot be read: {exc.strerror}") from exc
        listed = read_list(data, where=str(path))
        _check(listed, path, rows=rows, frames=frames)
        values = path.with_name(listed.values_name)
        try:
            return StoredFeatures(listed, values, (listing, file_stamp(values)))
        except (OSError, ValueError) as exc:
            if _is_still(path, listing):  # or else a writer has deleted list and values, or replaced both
                raise IndexDamagedError(f"{values}: cannot be read: {exc}") from exc


def stamp_of(path: Path, values: Path) -> FileStamps | None:
    """Changes whenever list or values may have changed; None if one of them is missing."""
    try:
        return file_stamp(path), file_stamp(values)
    except OSError:
        return None


def _is_still(path: Path, stamp: Stamp) -> bool:
    try:
        return file_stamp(path) == stamp
    except OSError:
        return False


def _check(listed: FeatureList, path: Path, *, rows: int, frames: str) -> None:
    """A list may be sound and yet be of something else: it may have been renamed."""
    has_its_name = path.name == feature_list_name(listed.frames_key, listed.spec.key)
    if not has_its_name or listed.frames_key != frames or len(listed) != rows:
        raise IndexDamagedError(f"{path}: this list is of other features than its name says")


def read_sound_list(path: Path, *, rows: int, frames: str) -> FeatureList | None:
    """The list at a path, if it can be read and is of these frames; a damaged one is as good as none."""
    try:
        listed = read_list(path.read_bytes(), where=str(path))
    except (OSError, IndexDamagedError):
        return None
    return listed if len(listed) == rows and listed.frames_key == frames else None


def remove_features(layout: Layout, video_id: str, *, except_of: Manifest | None = None) -> int:
    """Delete the features of a video; how many bytes they took.

    Args:
        layout: of the archive.
        video_id: of the video.
        except_of: the features of this index's frames stay, as far as their lists are sound.

    Raises:
        OSError, IndexDamagedError: the folder of the video cannot be read or written.
    """
    removed, kept_values = [], set()
    for path in layout.feature_lists(video_id):
        listed = None
        if except_of is not None:
            listed = read_sound_list(path, rows=except_of.frames, frames=frames_key(except_of))
        if listed is None:
            removed.append(path)
        else:
            kept_values.add(listed.values_name)
    # The lists first: values without a list are left over.
    removed += [path for path in layout.feature_values(video_id) if path.name not in kept_values]
    freed = sum(path.stat().st_size for path in removed)
    for path in removed:
        remove_file(path)
    return freed


def append_features(path: Path, known: FeatureList, items: Mapping[int, FeatureItem]) -> FeatureList:
    """Store further rows. They are on disk, and count, when this returns.

    Args:
        path: of the list.
        known: what is listed now; an empty list if nothing is.
        items: row -> item; a row that is listed already gets the new values.

    Raises:
        InputError: an item does not fit the spec.
        OSError: the disk is full or cannot be written.
    """
    values = path.with_name(known.values_name)
    make_folder(path.parent)
    fresh = not values.exists()
    locations: dict[int, ItemLocation] = {}
    with open(values, "xb" if fresh else "r+b") as file:
        file.seek(known.size_bytes)
        for row, item in items.items():
            locations[row] = _write(file, known.spec, item)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        sync_folder(path.parent)
    listed = known.added(locations, size_bytes=size)
    write_atomically(path, listed.to_bytes())
    return listed


def _write(file: BinaryIO, spec: FeatureSpec, item: FeatureItem) -> ItemLocation:
    if item.values.dtype != np.uint8 or item.values.shape != (spec.item_bytes(item.grid),):
        raise InputError(
            f"the features of a frame have {item.values.nbytes} bytes; a grid of {item.grid} needs "
            f"{spec.item_bytes(item.grid)}"
        )
    location = ItemLocation(file.tell(), item.grid, item.digest)
    file.write(item.values.data)
    return location


class StagedFeatures:
    """Features of a video while it is indexed: on disk as they come, without an index to belong to yet.

    They become part of the archive by ``Archive.commit(..., features=staged)``, or not at all.
    """

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        """Not for callers: see :meth:`indexes.archive.writer.Archive.stage_features`."""
        self.spec = spec
        self._folder = folder
        self._locations: list[ItemLocation] = []
        self._path = folder / f".features.tmp-{secrets.token_hex(4)}"
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._locations)

    def add(self, items: Iterable[FeatureItem]) -> None:
        """Keep the features of the next distinct frames of the video.

        Raises:
            InputError: an item does not fit the spec.
            OSError: the disk is full or cannot be written.
        """
        if self._file is None:
            make_folder(self._folder)
            self._file = open(self._path, "xb")  # noqa: SIM115 (closed by finish or discard)
        for item in items:
            self._locations.append(_write(self._file, self.spec, item))

    def finish(self, path: Path, *, frames: str, rows: IntArray, count: int) -> None:
        """Make them the stored features of an index.

        Args:
            path: of the list.
            frames: key of the index's frames.
            rows: int64: the row of each frame that was added.
            count: rows of the index.

        Raises:
            InputError: there are more or fewer frames than rows.
            OSError: the disk is full or cannot be written.
        """
        if len(rows) != len(self._locations):
            raise InputError(f"there are features of {len(self._locations)} frames for {len(rows)} distinct frames")
        if self._file is None:
            return
        size = self._file.tell()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        name = feature_values_name(frames, self.spec.key)
        os.replace(self._path, self._folder / name)
        sync_folder(self._folder)
        nothing = FeatureList.empty(self.spec, frames=frames, rows=count, values_name=name)
        listed = nothing.added(dict(zip(rows.tolist(), self._locations, strict=True)), size_bytes=size)
        write_atomically(path, listed.to_bytes())

    def discard(self) -> None:
        """Forget what was not finished. May be called twice."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take is tried again by closing
                file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

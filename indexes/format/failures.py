"""Videos that could not be indexed, each with the reason: one small file a video, under ``failed/``.

A video that fails leaves no manifest, so without this it would be tried again in every run, and
nobody could ask an archive what it lacks. A record says what was tried with; another version, rate,
policy or decoder tries again by itself. A record is about a path and the content that lay there. It ends when that
content is indexed, or anything that lies at the path (of a file that was mended, the content is another); and when the
file is missing, with ``hybrid remove --gone`` or ``hybrid index --retry-failed``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import blake3
from pydantic import BaseModel, ConfigDict, ValidationError

from hybrid.storage.atomic import remove_file, write_atomically
from hybrid.storage.foreign_json import read_json
from hybrid.version import __version__
from indexes.format.layout import Layout, check_video_id

__all__ = ["Attempt", "Failure", "failures", "forget_failure", "known_failure", "remember_failure"]


class Attempt(BaseModel):
    """What a video was tried with; a failure says nothing about any other attempt.

    Attributes:
        rate, policy, decoder: of sampling, as the caller set them; None: not set.
        hybrid_version: version of the program.
    """

    model_config = ConfigDict(frozen=True)

    rate: float | None = None
    policy: str | None = None
    decoder: str | None = None
    hybrid_version: str = __version__


class Failure(BaseModel):
    """One video that could not be indexed.

    Attributes:
        path: where it lies, absolute.
        video_id: its content id; None if it could not be read at all.
        reason: one line for people.
        kind: the name of the error.
        lasting: whether the same attempt must fail again, because the content is to blame.
        attempt: what it was tried with.
        attempts: how many times.
        failed_at: UTC, ISO 8601.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    video_id: str | None
    reason: str
    kind: str
    lasting: bool
    attempt: Attempt
    attempts: int
    failed_at: str


def remember_failure(
    folder: Path,
    failure: Failure,
    *,
    put: Callable[[Path, bytes], object] = write_atomically,
    drop: Callable[[Path], None] = remove_file,
) -> None:
    """Write a record, in place of older ones of the same content or path.

    Args:
        folder: of the archive.
        failure: the record.
        put: writes the file; ``Archive.put_file`` does so in a remote archive too.
        drop: deletes a file; ``Archive.drop_file`` does so in a remote archive too.

    Raises:
        OSError, ArchiveError: the archive cannot be written.
    """
    text = json.dumps({"format_version": 1, **failure.model_dump(mode="json")}, indent=2) + "\n"
    own = _record_path(folder, failure.video_id, failure.path)
    put(own, text.encode())
    for record in _records_of(folder, failure.path) - {own}:
        drop(record)


def known_failure(folder: Path, video_id: str | None, path: str) -> Failure | None:
    """The record of a video, if there is one that can be read."""
    return _read(_record_path(folder, video_id, path))


def forget_failure(
    folder: Path, video_id: str | None, path: str, *, drop: Callable[[Path], None] = remove_file
) -> None:
    """Delete the records of a content and of a path, whatever lay there; no error if there are none.

    Args:
        folder: of the archive.
        video_id: content id; None if it is not known.
        path: absolute.
        drop: deletes a file; ``Archive.drop_file`` does so in a remote archive too.

    Raises:
        OSError, ArchiveError: the archive cannot be written.
    """
    for record in {_record_path(folder, video_id, path), _record_path(folder, None, path)} | _records_of(folder, path):
        drop(record)


def failures(folder: Path) -> Iterator[Failure]:
    """All records that can be read, in order of the paths of the videos."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in Layout(folder).failed.iterdir():
            record = _read(entry) if entry.suffix == ".json" else None
            if record is not None:
                found.append(record)
    yield from sorted(found, key=lambda record: record.path)


def _records_of(folder: Path, path: str) -> frozenset[Path]:
    """Where the records of a path lie; read anew only where some were added or deleted, as each video of a run asks."""
    try:
        failed = Layout(folder).failed
        return _by_path(folder, failed.stat().st_mtime_ns, len(os.listdir(failed))).get(path, frozenset())
    except FileNotFoundError:
        return frozenset()


@lru_cache(maxsize=1)
def _by_path(folder: Path, changed_ns: int, count: int) -> Mapping[str, frozenset[Path]]:
    found: dict[str, frozenset[Path]] = {}
    for record in failures(folder):
        found[record.path] = found.get(record.path, frozenset()) | {_record_path(folder, record.video_id, record.path)}
    return found


def _record_path(folder: Path, video_id: str | None, path: str) -> Path:
    if video_id is None:
        return Layout(folder).failed / f"path-{blake3.blake3(os.fsencode(path)).hexdigest(length=16)}.json"
    return Layout(folder).failed / f"{check_video_id(video_id)}.json"


def _read(record: Path) -> Failure | None:
    """A record that can be read; parsed once as long as it is not changed, as every video of a run looks at all."""
    try:
        status = os.stat(record)
    except OSError:
        return None
    return _parsed(record, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**16)
def _parsed(record: Path, _inode: int, _size: int, _changed_ns: int) -> Failure | None:
    try:
        return Failure.model_validate(read_json(record, names=True))
    except (OSError, ValueError, ValidationError):
        return None

"""Compare everything that an archive stores with what its manifests say."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from hybrid.errors import ArchiveError, IndexDamagedError, VideoNotIndexedError
from hybrid.storage.json_record import JsonRecord
from indexes.ann.files import dimensions_of
from indexes.archive.reader import ArchiveReader
from indexes.format.layout import Layout, VectorKey

__all__ = ["Finding", "verify_archive"]


@dataclass(frozen=True, slots=True)
class Finding(JsonRecord):
    """What was found of one video.

    Attributes:
        video_id: its content id; empty for what belongs to no video.
        video: where it lay; None if that is not known.
        state: ``sound``; ``damaged``: something is missing or not what was written; ``unfinished``: it is
            being written, or a killed writer left it, which the next ``index`` mends by itself.
        problem: what is wrong; None if it is sound.
        frames: rows whose every byte was compared.
        features: stored features that were compared.
    """

    what = "what verifying found"

    video_id: str
    video: str | None
    state: Literal["sound", "damaged", "unfinished"]
    problem: str | None = None
    frames: int = 0
    features: int = 0


def verify_archive(archive: ArchiveReader, video_ids: Collection[str] | None = None) -> Iterator[Finding]:
    """Look at every byte of every video's index, or of some; in order of their ids.

    Looked at are hashes, numbers of rows, dimensions, and whether files are missing or left over.

    Args:
        archive: may be in use.
        video_ids: only these; by default everything that lies in the archive.
    """
    layout = Layout(archive.folder)
    names = sorted(video_ids) if video_ids is not None else layout.video_ids()
    for name in names:
        yield _check(archive, layout, name)
    if video_ids is None:
        yield from _strangers(archive, layout)
        yield from _approximate(archive)


def _check(archive: ArchiveReader, layout: Layout, video_id: str) -> Finding:
    path: str | None = None
    try:
        manifest = archive.manifest(video_id)
        if manifest is None:
            found = _without_manifest(archive, layout, video_id)
            return _check(archive, layout, video_id) if found is None else found
        path = manifest.source.path
        manifest = archive.verify(video_id)
        features = archive.verify_features(video_id)
    except VideoNotIndexedError as exc:  # replaced or removed while it was looked at
        return Finding(video_id, path, "unfinished", str(exc))
    except ArchiveError as exc:
        return Finding(video_id, path, "damaged", str(exc))
    return Finding(video_id, path, "sound", frames=manifest.frames, features=features)


def _without_manifest(archive: ArchiveReader, layout: Layout, video_id: str) -> Finding | None:
    """What to say of a video that had no manifest; None if a writer has come to its end since, and it has one now."""
    for _ in range(2):  # a writer may have begun between the look at its mark and that at its folder
        if (layout.pending / video_id).exists():
            return Finding(video_id, None, "unfinished", "it is being written, or its writer was killed")
        if archive.manifest(video_id) is not None:
            return None
        if not layout.video(video_id).exists():
            return Finding(video_id, None, "unfinished", "it was removed while it was looked at")
    return Finding(
        video_id,
        None,
        "damaged",
        f"{layout.video(video_id)}: the manifest is missing, so the video is not indexed any more; "
        f"to mend it: hybrid index VIDEO --archive {archive.uri}",
    )


def _strangers(archive: ArchiveReader, layout: Layout) -> Iterator[Finding]:
    """Vectors that no manifest refers to."""
    current: dict[str, VectorKey | None] = {}
    for name in layout.video_ids():
        try:
            manifest = archive.manifest(name)
        except ArchiveError:
            current[name] = None  # reported already; which vectors count is not known
            continue
        current[name] = None if manifest is None else manifest.key
    try:
        for key in list(archive.store.keys()):
            # Of videos without a readable manifest it was reported already.
            if current.get(key.video_id, "unknown") in (None, key):
                continue
            if _is_left_over(archive, layout, key):
                problem = f"vectors of generation {key.generation} belong to no index; hybrid compact deletes them"
                yield Finding(key.video_id, None, "unfinished", problem)
    except ArchiveError as exc:
        yield Finding("", None, "damaged", str(exc))


def _is_left_over(archive: ArchiveReader, layout: Layout, key: VectorKey) -> bool:
    """Whether vectors that no manifest referred to are left over: not being written, nor finished or deleted since."""
    if (layout.pending / key.video_id).exists():
        return False
    try:
        manifest = archive.manifest(key.video_id)
    except IndexDamagedError:
        return False  # which vectors count is not known
    if manifest is not None and manifest.key == key:
        return False
    return key in archive.store.keys(key.video_id)


def _approximate(archive: ArchiveReader) -> Iterator[Finding]:
    """Damaged files of the approximate index. They make a search slower, not wrong."""
    for dimension in dimensions_of(archive.folder):
        index = archive.approximate(dimension)
        for problem in index.problems if index is not None else ():
            remedy = f"searches do without it; to mend it: hybrid compact --archive {archive.uri}"
            yield Finding("", None, "damaged", f"{problem}; {remedy}")

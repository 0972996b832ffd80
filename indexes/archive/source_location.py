"""Where an indexed video lies now: at one of the locations that its manifest names, or nowhere any more."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import InputError, VideoError
from hybrid.formatting import plural
from indexes.archive.content_id import remembered
from indexes.archive.reader import ArchiveReader
from indexes.format.layout import Layout
from indexes.format.manifest import Manifest, Source

__all__ = [
    "VideoLocation",
    "check_folders",
    "has_other_size",
    "locate_video",
    "merged_source",
    "missing_videos",
    "path_exists",
    "replaced_videos",
]


@dataclass(frozen=True, slots=True)
class VideoLocation:
    """Where a video lies.

    Attributes:
        path: where; if it is missing, where it was when it was last given to ``index``.
        missing_reason: why it is not there any more; None if it is.
    """

    path: str
    missing_reason: str | None


def locate_video(archive: ArchiveReader, manifest: Manifest, *, read: bool) -> VideoLocation:
    """The first of a video's locations where it still lies.

    Args:
        archive: holds its index.
        manifest: names the locations.
        read: files are read where they are not known from before, so that the result is certain.
            Otherwise a file of the same size is taken for the video, unless it is known to be another.
    """
    reasons = []
    for path in manifest.source.locations:
        try:
            reason = _missing_reason(archive, manifest, path, read=read)
        except VideoError as exc:
            reason = str(exc)
        if reason is None:
            return VideoLocation(path, None)
        reasons.append(reason)
    return VideoLocation(manifest.source.location, reasons[0])


def missing_videos(archive: ArchiveReader, manifests: Sequence[Manifest]) -> list[tuple[Manifest, str]]:
    """Indexed videos that are at none of their locations any more, and why.

    A file is read only where its size is not the video's, or several videos name it. One that cannot be read is
    taken for the video.
    """
    claims = Counter(path for manifest in manifests for path in manifest.source.locations)
    found = []
    for manifest in manifests:
        reasons = []
        for path in manifest.source.locations:
            reason = None
            if claims[path] > 1 or has_other_size(path, manifest) or not path_exists(path):
                with contextlib.suppress(VideoError):
                    reason = _missing_reason(archive, manifest, path, read=True)
            reasons.append(reason)
        if reasons[0] is not None and None not in reasons:
            found.append((manifest, reasons[0]))
    return found


def replaced_videos(archive: ArchiveReader, manifests: Sequence[Manifest]) -> set[str]:
    """Ids of indexed videos in whose place another indexed video lies now.

    A video file that was changed has a new content and so a new index; the index of what lay there
    before stays until ``hybrid remove --gone``, but must not answer for a file that it is not of.
    Only paths that several indexes name are looked at, and a file that is unchanged since it was
    last looked at is not read. A video that lies at a further path, too, is not outdated.
    """
    claims = Counter(path for manifest in manifests for path in manifest.source.locations)
    now: dict[str, str] = {}
    for path, count in claims.items():
        if count > 1:
            with contextlib.suppress(VideoError):  # missing: nothing lies there that they could be mistaken for
                now[path] = archive.identify(path)
    return {
        manifest.video_id
        for manifest in manifests
        if all(now.get(path, manifest.video_id) != manifest.video_id for path in manifest.source.locations)
    }


def path_exists(path: str) -> bool:
    """Whether anything lies at a path. What cannot be looked at (a right that is missing) counts as there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def merged_source(manifest: Manifest, source: Source, identify: Callable[[str], str]) -> Source:
    """The locations of an indexed video, together with the one where it was found now.

    The stored location stays the first one as long as the video lies there: copies would else take turns. Further
    ones where nothing lies are left out.

    Args:
        manifest: names the stored locations.
        source: where the video was found.
        identify: gives the content id of a file.
    """
    stored = manifest.source
    first, rest = source, stored.locations[1:]
    if source.location != stored.location and _lies_at(stored.location, manifest.video_id, identify):
        first, rest = stored, (*stored.locations[1:], source.location)
    also = tuple(path for path in dict.fromkeys(rest) if path != first.location and path_exists(path))
    return Source(path=first.location, size_bytes=first.size_bytes, also=also)


def _lies_at(location: str, video_id: str, identify: Callable[[str], str]) -> bool:
    try:
        return identify(location) == video_id
    except VideoError:
        return False


def check_folders(videos: Iterable[Sequence[str]]) -> None:
    """Refuse to take videos for missing whose folders are missing as well, as where a disk is not mounted.

    Args:
        videos: of each video that is not where it was, the paths where it lay.

    Raises:
        InputError: the folders of some are missing, or empty as a mount point without its disk is.
    """
    lost = [found for paths in videos if (found := set(filter(None, map(_lost, paths))))]
    if lost:
        folders = sorted(set[str]().union(*lost))
        more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
        raise InputError(
            f"{plural(len(lost), 'video')} lay in folders that are not there any more, or empty: "
            f"{', '.join(folders[:3])}{more}; nothing was removed, since a disk may not be mounted; mount it, or to "
            "forget them all the same, add --even-if-folders-are-missing"
        )


def _lost(path: str) -> str | None:
    """The topmost folder of a path that is missing, or its folder if nothing lies there; None if neither."""
    if path_exists(path):
        return None
    folder = Path(path).parent
    missing = [each for each in (folder, *folder.parents) if not path_exists(str(each))]
    if missing:
        return str(missing[-1])
    try:
        with os.scandir(folder) as entries:
            return str(folder) if next(entries, None) is None else None
    except OSError:
        return str(folder)


def _missing_reason(archive: ArchiveReader, manifest: Manifest, path: str, *, read: bool) -> str | None:
    """Why a video does not lie at a path; None if it does.

    Raises:
        VideoError: what lies there cannot be read.
    """
    if not path_exists(path):
        return f"{path} does not exist any more"
    known = archive.identify(path) if read else remembered(path, cache=Layout(archive.folder).known_paths)
    if known is None and has_other_size(path, manifest):
        return f"{path} was changed since it was indexed"
    return None if known in (None, manifest.video_id) else f"another video lies at {path} now"


def has_other_size(path: str, manifest: Manifest) -> bool:
    """Whether a file lies at a path that is not as long as the video was; False for folders."""
    try:
        return os.path.isfile(path) and os.path.getsize(path) != manifest.source.size_bytes
    except OSError:
        return False

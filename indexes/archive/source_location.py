"""Where an indexed video lies now: at one of the places that its manifest names, or nowhere any more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import InputError, VideoError
from hybrid.formatting import plural
from indexes.archive.content_id import remembered
from indexes.archive.reader import ArchiveReader
from indexes.format.layout import Layout
from indexes.format.manifest import Manifest

__all__ = ["VideoLocation", "check_folders", "has_other_size", "locate_video", "path_exists"]


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
    """The first of a video's places where it still lies.

    Args:
        archive: holds its index.
        manifest: names the places.
        read: what lies there is read, where it is not known from before, so that the result is certain.
            Otherwise a file of the same size is taken for the video, unless it is known to be another.
    """
    reasons = []
    for place in manifest.source.locations:
        reason = _why_not(archive, manifest, place, read=read)
        if reason is None:
            return VideoLocation(place, None)
        reasons.append(reason)
    return VideoLocation(manifest.source.location, reasons[0])


def path_exists(place: str) -> bool:
    """Whether anything lies at a place. What cannot be looked at (a right that is missing) is not known to be gone."""
    try:
        os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def check_folders(videos: Iterable[Sequence[str]]) -> None:
    """Refuse to take videos for gone whose folders are not there either, as where a disk is not mounted.

    Args:
        videos: of each video that is not where it was, the places where it lay.

    Raises:
        InputError: the folders of some are missing, or empty as a mount point without its disk is.
    """
    lost = [found for places in videos if (found := set(filter(None, map(_lost, places))))]
    if lost:
        folders = sorted(set[str]().union(*lost))
        more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
        raise InputError(
            f"{plural(len(lost), 'video')} lay in folders that are not there any more, or empty: "
            f"{', '.join(folders[:3])}{more}; nothing was removed, since a disk may not be mounted; mount it, or to "
            "forget them all the same, add --even-if-folders-are-missing"
        )


def _lost(place: str) -> str | None:
    """The topmost folder of a path that is missing, or its folder if nothing lies there; None if neither."""
    if path_exists(place):
        return None
    folder = Path(place).parent
    missing = [each for each in (folder, *folder.parents) if not path_exists(str(each))]
    if missing:
        return str(missing[-1])
    try:
        with os.scandir(folder) as entries:
            return str(folder) if next(entries, None) is None else None
    except OSError:
        return str(folder)


def _why_not(archive: ArchiveReader, manifest: Manifest, place: str, *, read: bool) -> str | None:
    """Why a video does not lie at a place; None if it does."""
    if not path_exists(place):
        return f"{place} does not exist any more"
    if read:
        try:
            found = archive.identify(place)
        except VideoError as exc:
            return str(exc)
        return None if found == manifest.video_id else f"another video lies at {place} now"
    known = remembered(place, cache=Layout(archive.folder).known_paths)
    if known is None and has_other_size(place, manifest):
        return f"{place} was changed since it was indexed"
    return None if known in (None, manifest.video_id) else f"another video lies at {place} now"


def has_other_size(place: str, manifest: Manifest) -> bool:
    """Whether a file lies at a place that is not as long as the video was; nothing is said of folders."""
    try:
        return os.path.isfile(place) and os.path.getsize(place) != manifest.source.size_bytes
    except OSError:
        return False

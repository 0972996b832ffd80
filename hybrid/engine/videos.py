"""What a caller means by a video: a path or a content id; its index in the archive, and its open file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from hybrid.engine.checking import check_frames
from hybrid.engine.settings import stored_decoder
from hybrid.errors import IndexDamagedError, VideoOpenError
from hybrid.frames.interface import FrameSource
from hybrid.frames.registry import open_source
from hybrid.values import ByteArray, Timeline
from indexes.archive.lookup import find_by_name, require_indexed
from indexes.archive.source_location import locate_video
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest

__all__ = [
    "FoundVideo",
    "OpenedVideo",
    "find_video",
    "identify",
    "manifest_of",
    "read_frames",
    "stored_manifest",
]


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """A video that a caller named.

    Attributes:
        manifest: of its index; None if there is none that can be read.
        path: where it lies, or lay.
        missing_reason: why it cannot be read any more, if it cannot.
    """

    manifest: Manifest | None
    path: Path
    missing_reason: str | None


def identify(archive: Archive, path: Path) -> str:
    """The content id of a video.

    Raises:
        VideoError: there is no such path, or it cannot be read.
    """
    if not path.exists():
        raise VideoOpenError(f"{path}: there is no such file or folder")
    return archive.identify(path)


def stored_manifest(archive: Archive, video_id: str) -> Manifest | None:
    """The manifest that is there; a damaged one counts as none, so that indexing mends it."""
    try:
        return archive.manifest(video_id)
    except IndexDamagedError:
        return None


def find_video(archive: Archive, path: Path) -> FoundVideo:
    """What is indexed of the video that ``path`` names, and where the video lies.

    A path that is not there may still be known to the archive: as a place that the video had, or as a
    content id. The video is then looked for at all places where it was met.

    Raises:
        VideoError: there is no such path and the archive does not know it, or it cannot be read.
    """
    if path.exists():
        return FoundVideo(stored_manifest(archive, identify(archive, path)), path, None)
    manifest = find_by_name(archive, path)
    if manifest is None:
        raise VideoOpenError(f"{path}: there is no such file or folder, and {archive.uri} does not know it")
    found = locate_video(archive, manifest, read=True)
    return FoundVideo(manifest, Path(found.path), found.missing_reason)


def manifest_of(archive: Archive, found: FoundVideo) -> Manifest:
    """The manifest of a video that must be indexed.

    Raises:
        VideoNotIndexedError: the archive does not know the video.
        IndexDamagedError: its manifest cannot be read.
    """
    return found.manifest or require_indexed(archive, found.path, identify(archive, found.path))


def read_frames(archive: Archive, path: Path, ordinals: Sequence[int]) -> Iterator[tuple[int, ByteArray]]:
    """Decode some sampled frames of an indexed video, at their full size.

    Args:
        archive: holds its index.
        path: names the video, as for :func:`find_video`.
        ordinals: increasing.

    Yields:
        (ordinal, uint8 [H, W, 3] RGB); a frame that cannot be decoded is left out.

    Raises:
        VideoNotIndexedError: the archive does not know the video.
        VideoError: it cannot be opened or decoded, or its frames are others than those of the index.
    """
    found = find_video(archive, path)
    if found.missing_reason is not None:
        raise VideoOpenError(found.missing_reason)
    manifest = manifest_of(archive, found)
    timeline = archive.timeline(manifest)
    with OpenedVideo(found.path, timeline, manifest, missing_reason=None, archive_uri=archive.uri) as video:
        for batch in video.source().read(ordinals=ordinals):
            for i in range(len(batch)):
                yield int(batch.ordinals[i]), batch.rgb[i]


class OpenedVideo:
    """A video that is opened when it is first needed, if it is; closed as a context manager ends.

    Args:
        path: where it lies.
        timeline, manifest: of its index.
        missing_reason: why it cannot be read, if it cannot.
        archive_uri: of the archive, for the command that makes an index anew.
    """

    def __init__(
        self, path: Path, timeline: Timeline, manifest: Manifest, *, missing_reason: str | None, archive_uri: str
    ) -> None:
        self.missing_reason = missing_reason
        self._archive_uri = archive_uri
        self.seconds = 0.0
        self._path, self.timeline, self._manifest = path, timeline, manifest
        self._stack = ExitStack()
        self._source: FrameSource | None = None

    def source(self) -> FrameSource:
        """The open video.

        Raises:
            VideoError: it is gone, cannot be opened, or its frames are others than those of the index.
        """
        if self._source is None:
            if self.missing_reason is not None:
                raise VideoOpenError(self.missing_reason)
            started = time.perf_counter()
            check_frames(self._manifest, self._path, uri=self._archive_uri)
            decoder = stored_decoder(self._manifest.config, self._path)
            opened = open_source(self._path, self.timeline.sampling, decoder=decoder)
            self._source = self._stack.enter_context(opened)
            self.seconds += time.perf_counter() - started
        return self._source

    def take_seconds(self) -> float:
        """How long opening took; once, so that it is counted for one question only."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def __enter__(self) -> OpenedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

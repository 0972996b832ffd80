"""A video that is opened when it is first needed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from hybrid.engine.older_frames import check_frames
from hybrid.engine.settings import stored_decoder
from hybrid.errors import VideoOpenError
from hybrid.frames.interface import FrameSource
from hybrid.frames.registry import open_source
from hybrid.values import Timeline
from indexes.format.manifest import Manifest

__all__ = ["OpenedVideo"]


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
            check_frames(self._manifest, self._path, place=self._archive_uri)
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

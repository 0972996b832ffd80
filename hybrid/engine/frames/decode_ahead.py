"""A video that is being decoded in threads; and those that follow, begun before the present one is embedded.

A short video is decoded before most of it is embedded, and the end of every video is embedded and
written when its decoder has nothing left to do. In a run over many videos the decoder therefore
goes on with the video that comes next, and the next again if that is short: videos differ in length,
and where decoding and embedding take about as long, one of them would wait at every change otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from hybrid.engine.frames.prefetch import Prefetch, prefetched
from hybrid.engine.settings import requested_config
from hybrid.frames.interface import FrameSource
from hybrid.frames.registry import open_source
from hybrid.options.engine import EngineOptions
from hybrid.values import FrameBatch, Sampling
from indexes.archive.writer import Archive
from indexes.format.failures import known_failure

__all__ = ["Decoding", "VideoPrefetcher", "prefetched_frames"]

PREFETCH_BYTES = 16 * 2**20
"""How much decoded pictures of a video may take up while they wait to be embedded."""

MAX_PREFETCHED_VIDEOS = 3
"""How many videos may be under way before their turn."""


_LOG = logging.getLogger(__name__)


def prefetched_frames(batches: Iterator[FrameBatch]) -> AbstractContextManager[Iterator[FrameBatch]]:
    """The same batches, decoded in a thread that ends with the context."""
    return prefetched(batches, limit=PREFETCH_BYTES, size_of=_picture_bytes)


def _picture_bytes(batch: FrameBatch) -> int:
    return batch.rgb.nbytes


@dataclass(frozen=True, slots=True)
class _Way:
    """What decides which frames come out of a file."""

    sampling: Sampling
    decoder: str


class Decoding:
    """An open video whose samples are decoded in a thread. Use as a context manager.

    Attributes:
        source: whose; its report can be had once all batches are taken.
    """

    def __init__(self, source: FrameSource, *, when_decoded: Callable[[], None]) -> None:
        """``when_decoded`` is called in the thread once the decoder has done its work, or was stopped."""
        self.source = source
        self._batches = Prefetch(source.read(), limit=PREFETCH_BYTES, size_of=_picture_bytes, when_made=when_decoded)

    def batches(self) -> Iterator[FrameBatch]:
        """All samples in time order, once; what decoding raises is raised here."""
        return iter(self._batches)

    def close(self) -> None:
        """Stop decoding and let go of the file."""
        self._batches.close()
        self.source.close()

    def __enter__(self) -> Decoding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True, eq=False)
class _Opening:
    """A video that was looked at before its turn: it is being opened, is open, or was left alone."""

    path: Path
    way: _Way
    settled: threading.Event = field(default_factory=threading.Event)
    video_id: str | None = None
    decoding: Decoding | None = None
    left_alone: bool = False
    unwanted: bool = False


class VideoPrefetcher:
    """Decodes videos ahead, one after another. A mistaken guess costs time, never a wrong frame.

    Nothing is begun ahead that the archive has an index of (it is likely up to date), or a record of
    a failure (it may end the process, and then alone).

    Args:
        archive: which videos are known.
        settings: how a video is sampled that is not.
    """

    def __init__(self, archive: Archive, settings: EngineOptions) -> None:
        self._archive, self._settings = archive, settings
        self._changing = threading.Lock()
        self._following: tuple[Path, ...] = ()
        self._begun: list[_Opening] = []
        self._working = 0

    def decode(
        self, path: Path, video_id: str, sampling: Sampling, decoder: str, *, following: Sequence[Path] = ()
    ) -> Decoding:
        """Open a video and begin to decode it, unless that is done already.

        Args:
            path: file or folder.
            video_id: content id of what lies there now.
            sampling, decoder: how.
            following: will be decoded next, in this order; they are begun once this one is decoded.

        Raises:
            VideoError: it cannot be opened.
        """
        with self._changing:
            # What stops meanwhile must not begin this very video again.
            self._following = ()
        decoding = self._take(path, video_id, _Way(sampling, decoder), tuple(following))
        if decoding is None:
            source = open_source(path, sampling, decoder=decoder)
            with self._changing:
                self._working += 1
            decoding = Decoding(source, when_decoded=self._go_on)
        with self._changing:
            self._following = tuple(following)
            self._begin()
        return decoding

    def close(self) -> None:
        """Stop what was begun."""
        with self._changing:
            self._following = ()
        self._drop(keep=())

    def _go_on(self) -> None:
        """A decoder has become free."""
        with self._changing:
            self._working -= 1
            self._begin()

    def _begin(self) -> None:
        """Have a free decoder begin with the next video, if there is one. Called with the lock held."""
        under_way = [begun for begun in self._begun if not begun.left_alone]
        seen = {begun.path for begun in self._begun}
        path = next((path for path in self._following if path not in seen), None)
        if path is None or self._working or len(under_way) >= MAX_PREFETCHED_VIDEOS:
            return
        config = requested_config(self._settings, {}, kind="folder" if path.is_dir() else "file", stored=None)
        begun = _Opening(path, _Way(Sampling(rate=config.rate, policy=config.policy), config.decoder))
        self._begun.append(begun)
        self._working += 1
        threading.Thread(target=self._open, args=(begun,), name="hybrid-ahead", daemon=True).start()

    def _open(self, begun: _Opening) -> None:
        """In a thread. What fails here fails again, and is reported, when it is this video's turn."""
        decoding = None
        try:
            video_id = self._archive.identify(begun.path)
            if not self._is_known(video_id, begun.path):
                source = open_source(begun.path, begun.way.sampling, decoder=begun.way.decoder)
                decoding = Decoding(source, when_decoded=self._go_on)
                begun.video_id = video_id
        except Exception as exc:
            _LOG.debug("%s was not decoded ahead: %s", begun.path, exc)
        with self._changing:
            begun.decoding, begun.left_alone = decoding, decoding is None
            unwanted = begun.unwanted
        begun.settled.set()
        if decoding is None:
            self._go_on()
        elif unwanted:
            decoding.close()

    def _is_known(self, video_id: str, path: Path) -> bool:
        return self._archive.holds(video_id) or known_failure(self._archive.folder, video_id, str(path)) is not None

    def _take(self, path: Path, video_id: str, way: _Way, following: tuple[Path, ...]) -> Decoding | None:
        """What was begun of this video; what was begun of others than those that follow is dropped."""
        self._drop(keep=(path, *following))
        mine = next((begun for begun in self._begun if begun.path == path), None)
        if mine is None:
            return None
        mine.settled.wait()
        # The id was taken before the file was opened: had the content changed since, it would be another.
        if mine.way != way or mine.video_id != video_id:
            self._drop(keep=following)
            return None
        with self._changing:
            self._begun.remove(mine)
        return mine.decoding

    def _drop(self, *, keep: Sequence[Path]) -> None:
        """Stop what was begun of any other videos."""
        with self._changing:
            dropped = [begun for begun in self._begun if begun.path not in keep]
            self._begun = [begun for begun in self._begun if begun.path in keep]
            for begun in dropped:
                begun.unwanted = True
            open_ones = [begun.decoding for begun in dropped if begun.decoding is not None]
        for decoding in open_ones:
            decoding.close()

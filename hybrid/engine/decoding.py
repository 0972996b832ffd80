"""A video that is being decoded in threads; and the next one, begun before the present one is embedded.

A short video is decoded before most of it is embedded, and the end of every video is embedded and
written when its decoder has nothing left to do. In a run over many videos the decoder therefore
goes on with the video that comes next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from hybrid.engine.prefetch import Prefetch, prefetched
from hybrid.engine.settings import Settings, file_decoder, wanted_config
from hybrid.frames.source import DecoderName, FrameSource, open_source
from hybrid.values import FrameBatch, Sampling
from indexes.archive import Archive
from indexes.failures import known_failure

__all__ = ["DecodeAhead", "Decoding", "decoded_ahead"]

AHEAD_BYTES = 16 * 2**20
"""How much decoded pictures may take up while they wait to be embedded."""


def decoded_ahead(batches: Iterator[FrameBatch]) -> AbstractContextManager[Iterator[FrameBatch]]:
    """The same batches, decoded in a thread that ends with the context."""
    return prefetched(batches, ahead=AHEAD_BYTES, size_of=_picture_bytes)


def _picture_bytes(batch: FrameBatch) -> int:
    return batch.rgb.nbytes


@dataclass(frozen=True, slots=True)
class _Way:
    """What decides which frames come out of a file."""

    sampling: Sampling
    decoder: DecoderName


class Decoding:
    """An open video whose samples are decoded in a thread. Use as a context manager.

    Attributes:
        source: whose; its report can be had once all batches are taken.
    """

    def __init__(self, source: FrameSource, *, ahead: DecodeAhead | None = None) -> None:
        """``ahead`` is told when everything is decoded."""
        self.source = source
        when_made = None if ahead is None else ahead.begin_next
        self._batches = Prefetch(source.read(), ahead=AHEAD_BYTES, size_of=_picture_bytes, when_made=when_made)

    @property
    def all_decoded(self) -> bool:
        """Whether the decoder has done its work; batches may still wait to be taken."""
        return self._batches.all_made

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
class _Begun:
    """A video that is being opened, or is open, before it is its turn."""

    path: Path
    way: _Way
    opened: threading.Event = field(default_factory=threading.Event)
    video_id: str | None = None
    decoding: Decoding | None = None
    unwanted: bool = False


class DecodeAhead:
    """Decodes one video ahead. A mistaken guess costs time, never a wrong frame.

    Nothing is begun ahead that the archive has an index of (it is likely up to date), or a record of
    a failure (it may end the process, and then alone).

    Args:
        archive: which videos are known.
        settings: how a video is sampled that is not.
    """

    def __init__(self, archive: Archive, settings: Settings) -> None:
        self._archive, self._settings = archive, settings
        self._changing = threading.Lock()
        self._next: Path | None = None
        self._begun: _Begun | None = None

    def decode(
        self, path: Path, video_id: str, sampling: Sampling, decoder: DecoderName, *, following: Path | None = None
    ) -> Decoding:
        """Open a video and begin to decode it, unless that is done already.

        Args:
            path: file or folder.
            video_id: content id of what lies there now.
            sampling, decoder: how.
            following: will be decoded next; it is begun once this one is decoded.

        Raises:
            VideoError: it cannot be opened.
        """
        decoding = self._take(path, video_id, _Way(sampling, decoder))
        if decoding is None:
            decoding = Decoding(open_source(path, sampling, decoder=decoder), ahead=self)
        with self._changing:
            self._next = following
        if decoding.all_decoded:
            self.begin_next()
        return decoding

    def begin_next(self) -> None:
        """The decoder is free: have it begin with the video that follows, if there is one."""
        with self._changing:
            path, self._next = self._next, None
            if path is None or self._begun is not None:
                return
            config = wanted_config(self._settings, {}, kind="folder" if path.is_dir() else "file", stored=None)
            way = _Way(Sampling(rate=config.rate, policy=config.policy), file_decoder(config))
            begun = self._begun = _Begun(path, way)
        threading.Thread(target=self._open, args=(begun,), name="hybrid-ahead", daemon=True).start()

    def close(self) -> None:
        """Stop what was begun."""
        with self._changing:
            self._next = None
        self._drop()

    def _open(self, begun: _Begun) -> None:
        """In a thread. What fails here fails again, and is reported, when it is this video's turn."""
        try:
            video_id = self._archive.identify(begun.path)
            if self._archive.holds(video_id) or known_failure(self._archive.folder, video_id, str(begun.path)):
                return
            decoding = Decoding(
                open_source(begun.path, begun.way.sampling, decoder=begun.way.decoder),
                ahead=self,
            )
        except Exception:
            return
        else:
            with self._changing:
                begun.video_id, begun.decoding = video_id, decoding
                unwanted = begun.unwanted
            if unwanted:
                decoding.close()
        finally:
            begun.opened.set()

    def _take(self, path: Path, video_id: str, way: _Way) -> Decoding | None:
        """What was begun, if it is this video; if it is another, it is dropped."""
        begun = self._begun
        if begun is None:
            return None
        if begun.path != path or begun.way != way:
            self._drop()
            return None
        begun.opened.wait()
        # The id was taken before the file was opened: had the content changed since, it would be another.
        if begun.video_id != video_id:
            self._drop()
            return None
        with self._changing:
            self._begun = None
        return begun.decoding

    def _drop(self) -> None:
        with self._changing:
            begun, self._begun = self._begun, None
            if begun is None:
                return
            begun.unwanted = True
            decoding = begun.decoding
        if decoding is not None:
            decoding.close()

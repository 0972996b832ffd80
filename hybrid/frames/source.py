"""The interface of everything that yields sampled frames, and how one is opened.

A source knows one video and one :class:`~hybrid.values.Sampling`. It yields batches in time order
and keeps count of what it did. It knows nothing of models or indexes.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from hybrid.errors import InputError
from hybrid.values import FrameBatch, MissingFrame, Sampling, VideoInfo

__all__ = ["DECODERS", "DecoderName", "FrameSource", "ReadReport", "check_ordinals", "open_source"]

DecoderName = Literal["pyav", "decord"]
DECODERS: tuple[DecoderName, ...] = ("pyav", "decord")

DEFAULT_BATCH_BYTES = 32 * 2**20
"""How large a batch of decoded frames may grow (one frame may always be yielded)."""


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What one reading of a video took and could not get.

    Attributes:
        duration_seconds: where the timeline ended.
        frames_decoded: frames that came out of the decoder, wanted or not.
        packets_seen: packets of the video stream that were demuxed (0 where there are none).
        packets_decoded: packets that were handed to the decoder.
        packets_damaged: packets that the decoder refused.
        missing: samples that could not be had, by ordinal, with the reason.
        cut: whether the file lacks its end, so that the timeline ends before the video does.
        note: what else the caller should know (cut file, fallback to a full decode); or None.
    """

    duration_seconds: float
    frames_decoded: int
    packets_seen: int = 0
    packets_decoded: int = 0
    packets_damaged: int = 0
    missing: tuple[MissingFrame, ...] = ()
    cut: bool = False
    note: str | None = None


class FrameSource(ABC):
    """Sampled frames of one video. Use as a context manager."""

    info: VideoInfo
    sampling: Sampling

    @abstractmethod
    def read(self, *, ordinals: Sequence[int] | None = None) -> Iterator[FrameBatch]:
        """Yield the samples in time order, in batches of bounded size.

        Args:
            ordinals: only these samples (strictly increasing); all of them by default. The frames
                are the same, bit for bit, as in a reading of all.

        Raises:
            InputError: ordinals do not increase or are negative.
            FrameDecodeError: not one of the wanted samples could be decoded.
        """

    @abstractmethod
    def report(self) -> ReadReport:
        """What the last finished reading took and could not get.

        Raises:
            InputError: no reading was finished yet.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file. May be called twice."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_ordinals(ordinals: Sequence[int]) -> list[int]:
    """The ordinals as a list of ints.

    Raises:
        InputError: they do not increase, or one is negative.
    """
    asked = [int(k) for k in ordinals]
    if asked and asked[0] < 0:
        raise InputError(f"ordinal {asked[0]} is negative; samples are counted from 0")
    for before, after in itertools.pairwise(asked):
        if after <= before:
            raise InputError(f"ordinals must increase, but {after} follows {before}; sort them and drop repeats")
    return asked


def open_source(
    path: str | Path,
    sampling: Sampling,
    *,
    decoder: DecoderName = "pyav",
    threads: int | None = None,
    batch_bytes: int = DEFAULT_BATCH_BYTES,
) -> FrameSource:
    """Open a video file, or a folder of numbered images, for sampling.

    Args:
        path: a video file; or a folder with images whose names end in their number
            (``sec000.png``, ``sec001.png`` ...), one per second.
        sampling: rate and policy.
        decoder: for files; a folder needs none.
        threads: decoding threads; by default as many as there are cores.
        batch_bytes: how large a batch may grow.

    Raises:
        VideoOpenError: there is no such path, or it is not a video or such a folder.
        NoVideoStreamError: a container without a video stream.
        InputError: the decoder is not known.
        MissingDependencyError: the decoder's package is not installed.
    """
    if decoder not in DECODERS:
        raise InputError(f"decoder is {decoder!r}; legal are {', '.join(DECODERS)}")
    place = Path(path)
    if place.is_dir():
        from hybrid.frames.folder import FolderSource

        return FolderSource(place, sampling, batch_bytes=batch_bytes)
    if decoder == "decord":
        from hybrid.frames.decord import DecordSource

        return DecordSource(place, sampling, threads=threads, batch_bytes=batch_bytes)
    from hybrid.frames.pyav import PyAVSource

    return PyAVSource(place, sampling, threads=threads, batch_bytes=batch_bytes)

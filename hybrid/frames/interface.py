"""The interface of everything that yields sampled frames, and how one is opened.

A source knows one video and one :class:`~hybrid.values.Sampling`. It yields batches in time order
and keeps count of what it did. It knows nothing of models or indexes.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from hybrid.errors import FrameDecodeError, InputError, VideoOpenError
from hybrid.values import FrameBatch, MissingFrame, Sampling, VideoInfo

__all__ = [
    "FrameSource",
    "ReadReport",
    "check_at_least_one",
    "check_ordinals",
    "checked_gaps",
    "no_sample_reason",
]

DEFAULT_BATCH_BYTES = 2 * 2**20
"""How large a batch of decoded frames may grow (one frame may always be yielded): small, because nobody can work
on a batch before its last frame is decoded."""


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What one reading of a video took and could not get.

    Attributes:
        duration_seconds: where the timeline ended.
        frames_decoded: frames that came out of the decoder, requested or not.
        packets_seen: packets of the video stream that were demuxed (0 where there are none).
        packets_decoded: packets that were handed to the decoder.
        packets_damaged: packets that the decoder refused.
        missing: samples that could not be had, by ordinal, with the reason.
        cut: whether some of the video is not on the timeline: the file lacks its end, or packets
            or frames with impossible time stamps are left out.
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
    _report: ReadReport | None = None

    @abstractmethod
    def read(self, *, ordinals: Sequence[int] | None = None) -> Iterator[FrameBatch]:
        """Yield the samples in time order, in batches of bounded size.

        Args:
            ordinals: only these samples (strictly increasing); all of them by default. The frames
                are the same, bit for bit, as in a reading of all.

        Raises:
            InputError: ordinals do not increase or are negative.
            FrameDecodeError: not one of the requested samples could be decoded.
        """

    def report(self) -> ReadReport:
        """What the last finished reading took and could not get.

        Raises:
            InputError: no reading was finished yet.
        """
        if self._report is None:
            raise InputError("no reading was finished yet; read() to its end first")
        return self._report

    def close(self) -> None:  # noqa: B027 (a source that keeps nothing open has nothing to do)
        """Let go of the file. May be called twice."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_at_least_one(**values: int | None) -> None:
    """Refuse options below 1; None stands for the default.

    Raises:
        InputError: one of them is below 1.
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")


def checked_gaps(path: str, missing: Iterable[MissingFrame], *, found: int) -> tuple[MissingFrame, ...]:
    """What a reading could not get, by ordinal.

    Raises:
        FrameDecodeError: it got nothing at all though something was requested.
    """
    gaps = tuple(sorted(missing, key=lambda gap: gap.ordinal))
    if gaps and not found:
        raise FrameDecodeError(
            f"{path}: none of the {len(gaps)} requested frames could be decoded; the first: {gaps[0].reason}"
        )
    return gaps


def video_info(
    path: str | Path, kind: Literal["file", "folder"], *, seconds: float, width: int, height: int, codec: str
) -> VideoInfo:
    """What a source knows of its video once it is open.

    Raises:
        VideoOpenError: it states a length or a size that no video has.
    """
    try:
        return VideoInfo(path=str(path), kind=kind, duration_seconds=seconds, width=width, height=height, codec=codec)
    except InputError as exc:
        raise VideoOpenError(f"{path} states {exc}; the file is damaged") from exc


def no_sample_reason(sampling: Sampling, end_seconds: float) -> str:
    """Why a video that ends there has no sample with an ordinal that was asked for."""
    if sampling.policy == "keyframes":
        return "no key frame in its interval"
    return f"the video ends at {end_seconds:.3f} s"


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

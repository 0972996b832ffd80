"""What every source of frames promises, and the part of it that is the same in all decoders.

A source reads one video with one :class:`~hybrid.values.Sampling`. It yields batches in time order and reports what it
could not read. It knows nothing of models or indexes.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from hybrid.errors import FrameDecodeError, InputError, VideoOpenError
from hybrid.values import ByteArray, FrameBatch, MissingFrame, Sampling, VideoInfo

__all__ = ["DEFAULT_BATCH_BYTES", "Decoder", "FrameSource", "ReadReport", "Sample"]

DEFAULT_BATCH_BYTES = 2 * 2**20
"""How large a batch of decoded frames may grow (one frame may always be yielded): small, because nobody can work
on a batch before its last frame is decoded."""


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What one reading of a video took, and what it could not read.

    Attributes:
        duration_seconds: where the timeline ends.
        frames_decoded: frames that came out of the decoder, requested or not.
        packets_seen: packets of the video stream that were demuxed (0: there are none).
        packets_decoded: packets that were passed to the decoder.
        packets_damaged: packets that the decoder refused.
        missing: samples that could not be read, by ordinal, with the reason.
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
            ordinals: only these samples (strictly increasing); default: all of them. The frames
                are the same, bit for bit, as in a reading of all.

        Raises:
            InputError: ordinals do not increase or are negative.
            FrameDecodeError: not one of the requested samples could be decoded.
        """

    def report(self) -> ReadReport:
        """What the last finished reading took, and what it could not read.

        Raises:
            InputError: no reading is finished yet.
        """
        if self._report is None:
            raise InputError("no reading was finished yet; read() to its end first")
        return self._report

    def close(self) -> None:  # noqa: B027 (a source that keeps nothing open has nothing to do)
        """Close the file. A second call does nothing."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sample(NamedTuple):
    """One sample: either a picture, uint8 [H, W, 3] RGB, or the reason why there is none."""

    ordinal: int
    pts_seconds: float
    frame_number: int
    rgb: ByteArray | None
    reason: str | None = None

    @classmethod
    def missing(cls, ordinal: int, reason: str) -> Sample:
        """A sample without a picture."""
        return cls(ordinal, 0.0, -1, None, reason)


class Decoder(FrameSource):
    """Base of every decoder: it opens a video and gives its samples in time order.

    Args:
        path: of the file or folder.
        sampling: rate and policy.
        threads: decoding threads; None: what suits the decoder.
        batch_bytes: how large a batch may grow.

    Attributes:
        name: its own name, by which it is registered, requested, and recorded in an index.

    Raises:
        InputError: threads or batch_bytes is below 1.
    """

    name: ClassVar[str]

    def __init__(
        self,
        path: str | Path,
        sampling: Sampling,
        *,
        threads: int | None = None,
        batch_bytes: int = DEFAULT_BATCH_BYTES,
    ) -> None:
        for option, value in (("threads", threads), ("batch_bytes", batch_bytes)):
            if value is not None and value < 1:
                raise InputError(f"{option} is {value}; it must be at least 1")
        self.sampling = sampling
        self._path, self._threads, self._batch_bytes = str(path), threads, batch_bytes
        self.info = self._open()

    @abstractmethod
    def _open(self) -> VideoInfo:
        """Open the video and tell what is known of it (:meth:`_info`). Called once, when a decoder is made.

        Raises:
            VideoOpenError: it cannot be opened, or is no video.
        """

    @abstractmethod
    def _samples(self, ordinals: list[int] | None) -> Generator[Sample, None, ReadReport]:
        """Yield all samples, or those with these ordinals, in time order; return the report but for ``missing``.

        An ordinal that the video does not have may be left out.
        """

    def read(self, *, ordinals: Sequence[int] | None = None) -> Iterator[FrameBatch]:
        """See :meth:`FrameSource.read`."""
        return self._read(None if ordinals is None else _checked(ordinals))

    def _read(self, ordinals: list[int] | None) -> Iterator[FrameBatch]:
        missing: list[MissingFrame] = []
        batches = _BatchBuilder(self._batch_bytes)
        found = False
        left = dict.fromkeys(ordinals or ())
        report: ReadReport | None = None

        def samples() -> Generator[Sample]:
            nonlocal report
            report = yield from self._samples(ordinals)

        with closing(samples()) as given:
            for sample in given:
                left.pop(sample.ordinal, None)
                if sample.rgb is None:
                    missing.append(MissingFrame(sample.ordinal, sample.reason or "no frame"))
                    continue
                found = True
                batch = batches.add(sample, sample.rgb)
                if batch is not None:
                    yield batch
        rest = batches.take()
        if rest is not None:
            yield rest
        assert report is not None
        reason = f"the video ends at {report.duration_seconds:.3f} s"
        if self.sampling.policy == "keyframes":
            reason = "no key frame in its interval"
        missing += [MissingFrame(ordinal, reason) for ordinal in left]
        missing.sort(key=lambda gap: gap.ordinal)
        if missing and not found:
            raise FrameDecodeError(
                f"{self._path}: none of the {len(missing)} requested frames could be decoded; the first: "
                f"{missing[0].reason}"
            )
        self._report = replace(report, missing=tuple(missing))

    def _info(
        self, kind: Literal["file", "folder"], *, seconds: float, width: int, height: int, codec: str
    ) -> VideoInfo:
        """What is known of the video once it is open.

        Raises:
            VideoOpenError: it states a length or a size that no video has.
        """
        try:
            return VideoInfo(
                path=self._path, kind=kind, duration_seconds=seconds, width=width, height=height, codec=codec
            )
        except InputError as exc:
            raise VideoOpenError(f"{self._path} states {exc}; the file is damaged") from exc


class _BatchBuilder:
    """Collects pictures in batches of one size, no larger than a number of bytes."""

    def __init__(self, batch_bytes: int) -> None:
        self._batch_bytes = batch_bytes
        self._rgb: ByteArray | None = None
        self._rows: list[tuple[int, float, int]] = []

    def add(self, sample: Sample, rgb: ByteArray) -> FrameBatch | None:
        """Add a picture. Returns the batch before it, if that is full or of another size."""
        full = None
        if self._rgb is not None and (len(self._rows) == len(self._rgb) or self._rgb.shape[1:] != rgb.shape):
            full = self.take()
        if self._rgb is None:
            capacity = max(1, self._batch_bytes // max(1, rgb.size))
            self._rgb = np.empty((capacity, *rgb.shape), dtype=np.uint8)
        self._rgb[len(self._rows)] = rgb
        self._rows.append(sample[:3])
        return full

    def take(self) -> FrameBatch | None:
        """What is collected so far; None if nothing is."""
        if self._rgb is None or not self._rows:
            return None
        ordinals, seconds, numbers = zip(*self._rows, strict=True)
        rgb = self._rgb[: len(self._rows)]
        self._rgb, self._rows = None, []
        return FrameBatch(
            np.array(ordinals, dtype=np.int64), np.array(seconds, dtype=np.float64), np.array(numbers, np.int64), rgb
        )


def _checked(ordinals: Sequence[int]) -> list[int]:
    """The ordinals as a list of ints.

    Raises:
        InputError: they do not increase, or one is negative.
    """
    checked = [int(k) for k in ordinals]
    if checked and checked[0] < 0:
        raise InputError(f"ordinal {checked[0]} is negative; samples are counted from 0")
    for before, after in itertools.pairwise(checked):
        if after <= before:
            raise InputError(f"ordinals must increase, but {after} follows {before}; sort them and drop repeats")
    return checked

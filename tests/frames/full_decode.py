"""The reference that sampling is measured against: every packet decoded, nothing left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt

from hybrid.frames.interface import FrameSource
from hybrid.values import FrameBatch


@dataclass(frozen=True)
class FullDecode:
    """All frames of a file in the order in which they came out."""

    seconds: npt.NDArray[np.float64]
    rgb: list[npt.NDArray[np.uint8]]
    key: list[bool]
    refused: int

    def shown_at(self, seconds: float) -> int:
        """The last frame that has begun; the first one if none has."""
        return max(0, int(np.searchsorted(self.seconds, seconds + 1e-6, side="right")) - 1)


def full_decode(path: Path) -> FullDecode:
    """Decode all of a file with PyAV, packet by packet, on one thread.

    One thread, because with several FFmpeg's H.264 decoder does not conceal damage.
    """
    seconds, pictures, keys, refused = [], [], [], 0
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        start = (container.start_time or 0) / 1e6
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                refused += 1
                continue
            for frame in frames:
                seconds.append(float(frame.pts * stream.time_base) - start)
                pictures.append(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4))
                keys.append(frame.key_frame)
    return FullDecode(np.array(seconds), pictures, keys, refused)


@dataclass(frozen=True)
class Samples:
    """All that one reading gave, as lists."""

    ordinals: list[int]
    seconds: list[float]
    numbers: list[int]
    rgb: list[npt.NDArray[np.uint8]]


def samples(batches: list[FrameBatch]) -> Samples:
    """The contents of batches, one after another."""
    return Samples(
        [int(k) for batch in batches for k in batch.ordinals],
        [float(t) for batch in batches for t in batch.pts_seconds],
        [int(n) for batch in batches for n in batch.frame_numbers],
        [picture for batch in batches for picture in batch.rgb],
    )


def read_all(source: FrameSource, ordinals: list[int] | None = None) -> Samples:
    """Read a source to its end."""
    return samples(list(source.read(ordinals=ordinals)))


def assert_same(one: Samples, other: Samples) -> None:
    """Bit for bit."""
    assert one.ordinals == other.ordinals
    assert one.seconds == other.seconds
    assert one.numbers == other.numbers
    for k, a, b in zip(one.ordinals, one.rgb, other.rgb, strict=True):
        assert a.shape == b.shape, k
        assert (a == b).all(), f"sample {k} differs"

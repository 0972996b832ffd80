"""Decoded frames to RGB arrays, and RGB arrays to batches of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hybrid.errors import FrameDecodeError
from hybrid.frames.container.crop import NO_CROP, Crop
from hybrid.frames.decoding.display import orientation_of
from hybrid.values import ByteArray, FrameBatch

if TYPE_CHECKING:
    import av

__all__ = ["BatchBuilder", "RgbConverter", "Sample"]


class Sample(NamedTuple):
    """One sample on its way to a batch: either a picture or the reason why there is none."""

    ordinal: int
    pts_seconds: float
    frame_number: int
    rgb: ByteArray | None
    reason: str | None = None


class RgbConverter:
    """Turns frames of FFmpeg into RGB as shown. Keeps the scaler between frames, so one per thread.

    The conversion is that of PyAV's ``frame.to_ndarray(format="rgb24")``, bit for bit: the matrix
    and range that the stream states are followed (BT.601, BT.709, BT.2020; limited or full range);
    where it states none, BT.601 and limited range, as FFmpeg does. Transfer curves (HDR) are not
    applied. Pixels that are not square stay as they are, as ffmpeg's command line writes them; players
    stretch them. The container's crop is applied (see :mod:`hybrid.frames.container.crop`), then what the
    display matrix asks for (see :mod:`hybrid.frames.decoding.display`).

    Args:
        crop: that of the container; FFmpeg applies the codec's own.
    """

    def __init__(self, crop: Crop = NO_CROP) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._crop = crop

    def __call__(self, frame: av.VideoFrame) -> ByteArray:
        """uint8 [H, W, 3] as shown; may be a view that keeps the frame alive.

        Raises:
            FrameDecodeError: FFmpeg cannot convert the frame's pixel format.
        """
        try:
            converted = self._reformatter.reformat(frame, format="rgb24", threads=1)
        except (ValueError, OSError) as exc:
            raise FrameDecodeError(f"pixel format {frame.format.name} cannot be converted to RGB: {exc}") from exc
        rgb = np.asarray(converted.to_ndarray(), dtype=np.uint8)
        return orientation_of(frame).apply(self._crop.apply(rgb, frame.format))


class BatchBuilder:
    """Collects pictures into batches of one size, no larger than a number of bytes."""

    def __init__(self, batch_bytes: int) -> None:
        self._batch_bytes = batch_bytes
        self._rgb: ByteArray | None = None
        self._rows: list[tuple[int, float, int]] = []

    def add(self, sample: Sample) -> FrameBatch | None:
        """Take a picture in. Returns the batch before it, if that is full or of another size."""
        assert sample.rgb is not None
        full = None
        if self._rgb is not None and (len(self._rows) == len(self._rgb) or self._rgb.shape[1:] != sample.rgb.shape):
            full = self.take()
        if self._rgb is None:
            capacity = max(1, self._batch_bytes // max(1, sample.rgb.size))
            self._rgb = np.empty((capacity, *sample.rgb.shape), dtype=np.uint8)
        self._rgb[len(self._rows)] = sample.rgb
        self._rows.append((sample.ordinal, sample.pts_seconds, sample.frame_number))
        return full

    def take(self) -> FrameBatch | None:
        """What was collected so far; None if nothing."""
        if self._rgb is None or not self._rows:
            return None
        ordinals, seconds, numbers = zip(*self._rows, strict=True)
        rgb = self._rgb[: len(self._rows)]
        self._rgb, self._rows = None, []
        return FrameBatch(
            np.array(ordinals, dtype=np.int64), np.array(seconds, dtype=np.float64), np.array(numbers, np.int64), rgb
        )

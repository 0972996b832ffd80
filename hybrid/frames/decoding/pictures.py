"""Decoded frames to RGB arrays, and RGB arrays to batches of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hybrid.errors import FrameDecodeError
from hybrid.frames.container.crop import NO_CROP, Crop
from hybrid.frames.decoding.display import orientation_of
from hybrid.values import ByteArray

if TYPE_CHECKING:
    import av

__all__ = ["RgbConverter"]


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

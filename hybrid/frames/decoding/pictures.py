"""Decoded frames as RGB arrays, as they are shown: converted, cropped, turned and mirrored.

The display matrix of a container or a stream is followed as by ffmpeg's command line: quarter turns and mirror images,
in any combination, are applied; scale, shift and perspective of the matrix are not. A matrix that is singular (all
zeros, say) is no statement. A turn by any other angle is not applied either, and is named in a note: ffmpeg's own would
cut off the corners.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from hybrid.errors import FrameDecodeError
from hybrid.frames.container.boxes import NO_CROP, Crop
from hybrid.values import ByteArray

if TYPE_CHECKING:
    import av
    from av.sidedata.sidedata import SideData

__all__ = ["AS_STORED", "Orientation", "RgbConverter", "orientation_of", "orientation_of_matrix", "skew_degrees"]

MOST_DEGREES_OFF = 0.5
"""A turn within this of a quarter turn is one."""


class Orientation(NamedTuple):
    """What is done to a picture, in this order.

    Attributes:
        transposed: rows become columns.
        rows_flipped: the last row becomes the first.
        columns_flipped: the last column becomes the first.
    """

    transposed: bool
    rows_flipped: bool
    columns_flipped: bool

    def apply(self, rgb: ByteArray) -> ByteArray:
        """The picture [H, W, C] as it is shown: a view."""
        if self.transposed:
            rgb = rgb.swapaxes(0, 1)
        if self.rows_flipped:
            rgb = rgb[::-1]
        return rgb[:, ::-1] if self.columns_flipped else rgb

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown."""
        return (height, width) if self.transposed else (width, height)


AS_STORED = Orientation(False, False, False)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """How a decoded frame is shown."""
    matrix = _matrix(frame)
    return AS_STORED if matrix is None else orientation_of_matrix(matrix)


def orientation_of_matrix(matrix: tuple[int, ...]) -> Orientation:
    """The orientation that a display matrix asks for.

    Args:
        matrix: nine numbers, row by row, as FFmpeg has them. The picture's point (x, y), y downwards, is shown at
            ``(m[0] x + m[3] y, m[1] x + m[4] y)``, but for scale and shift.
    """
    angle = _degrees(matrix)
    if angle is None or _off(angle) > MOST_DEGREES_OFF:
        return AS_STORED
    if round(angle / 90) % 2:
        return Orientation(True, rows_flipped=matrix[1] < 0, columns_flipped=matrix[3] < 0)
    return Orientation(False, rows_flipped=matrix[4] < 0, columns_flipped=matrix[0] < 0)


def skew_degrees(frame: av.VideoFrame) -> float | None:
    """The angle, clockwise, of a turn that is not applied because it is no quarter turn; None if there is none."""
    matrix = _matrix(frame)
    angle = None if matrix is None else _degrees(matrix)
    return None if angle is None or _off(angle) <= MOST_DEGREES_OFF else angle


def _matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    data = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    return None if data is None else struct.unpack("=9i", bytes(data))


def _degrees(matrix: tuple[int, ...]) -> float | None:
    """The turn, clockwise; None where the matrix is singular in x or y."""
    x_scale, y_scale = math.hypot(matrix[0], matrix[3]), math.hypot(matrix[1], matrix[4])
    if not x_scale or not y_scale:
        return None
    return math.degrees(math.atan2(matrix[1] / y_scale, matrix[0] / x_scale))


def _off(degrees: float) -> float:
    """How far from the next quarter turn."""
    return abs(degrees - 90 * round(degrees / 90))


class RgbConverter:
    """Turns frames of FFmpeg into RGB as shown. Keeps the scaler between frames, so one per thread.

    The conversion is that of PyAV's ``frame.to_ndarray(format="rgb24")``, bit for bit: the matrix
    and range that the stream states are followed (BT.601, BT.709, BT.2020; limited or full range);
    where it states none, BT.601 and limited range, as FFmpeg does. Transfer curves (HDR) are not
    applied. Pixels that are not square stay as they are, as ffmpeg's command line writes them; players
    stretch them. The container's crop is applied, then what the display matrix asks for.

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

"""The crop that a container asks for on top of the codec's own, which FFmpeg's library leaves to its callers.

* Matroska and WebM: ``PixelCropTop``, ``-Bottom``, ``-Left``, ``-Right`` of the track (RFC 9559, 5.1.4.1.28).
* MP4 and QuickTime: the clean aperture box ``clap`` (ISO/IEC 14496-12, 12.1.4) of the track's first sample entry.

ffmpeg's command line applies both, before it turns the picture. What makes no sense is no crop.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.values import ByteArray

if TYPE_CHECKING:
    import av

__all__ = ["NO_CROP", "Crop", "container_crop"]

MOST_TRACKS_BYTES = 2**20
"""The tracks of a Matroska file are read into memory as a whole; larger ones are not searched for a crop."""

MOST_PARTS = 10_000
"""So many parts of one level are looked at: a file may be made of empty ones."""

_SEGMENT, _TRACKS, _CLUSTER = 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK_ENTRY, _TRACK_TYPE, _VIDEO = 0xAE, 0x83, 0xE0
_PIXEL_CROPS = (0x54CC, 0x54DD, 0x54BB, 0x54AA)
_TO_SAMPLE_ENTRIES = (b"mdia", b"minf", b"stbl", b"stsd")


_Range: TypeAlias = tuple[int, int]
"""First byte, and the byte behind the last one."""


class Crop(NamedTuple):
    """Pixels left out at each side of the picture as decoded; none by default."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def apply(self, rgb: ByteArray, form: av.VideoFormat) -> ByteArray:
        """The rest of a picture [H, W, C], which was made of pixels of the format ``form``: a view."""
        x, y, width, height = self.window(rgb.shape[1], rgb.shape[0], form)
        return rgb[y : y + height, x : x + width]

    def window(self, width: int, height: int, form: av.VideoFormat) -> tuple[int, int, int, int]:
        """The rest of a picture of this size: left, top, width and height; all of it if nothing would be left.

        Where pixels share their colour with their neighbours, it begins and ends between two such groups, as in
        ffmpeg's ``crop`` filter.
        """
        if not any(self) or not self.fits(width, height):
            return 0, 0, width, height
        across, down = 8 // form.chroma_width(8), 8 // form.chroma_height(8)
        wide, high = width - self.left - self.right, height - self.top - self.bottom
        return self.left - self.left % across, self.top - self.top % down, wide - wide % across, high - high % down

    def fits(self, width: int, height: int) -> bool:
        """Whether anything of such a picture would be left."""
        return self.left + self.right < width and self.top + self.bottom < height


NO_CROP = Crop()


def container_crop(path: str, container: InputContainer, stream: VideoStream) -> Crop:
    """The crop that the container of a file asks for; none if it asks for none or cannot be read."""
    formats = container.format.name.split(",")
    try:
        with open(path, "rb") as file:
            if "matroska" in formats:
                number = [other.index for other in container.streams.video].index(stream.index)
                return _matroska_crop(file, number)
            if "mp4" in formats:
                return _mp4_crop(file, stream.id, stream.width, stream.height)
    except (OSError, ValueError, IndexError, StopIteration, struct.error, ZeroDivisionError):
        pass
    return NO_CROP


def _matroska_crop(file: BinaryIO, number: int) -> Crop:
    """Of the video track that is ``number`` among those of video."""
    for name, size in islice(_elements_of_file(file), MOST_PARTS):
        if name == _TRACKS:
            if size > MOST_TRACKS_BYTES:
                return NO_CROP
            entries = [dict(_elements(data)) for name, data in _elements(file.read(size)) if name == _TRACK_ENTRY]
            videos = [entry for entry in entries if _number(entry.get(_TRACK_TYPE, b"")) == 1]
            video = dict(_elements(videos[number].get(_VIDEO, b"")))
            return Crop(*(_number(video.get(name, b"")) for name in _PIXEL_CROPS))
        if name == _CLUSTER:
            return NO_CROP
    return NO_CROP


def _elements_of_file(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Name and size of the elements of the first segment; the file stands at the content of each."""
    while True:
        head = file.read(12)
        name, after = _vint(head, 0, keep_marker=True)
        size, after = _vint(head, after)
        file.seek(after - len(head), 1)
        if name == _SEGMENT:
            continue
        content = file.tell()
        yield name, size
        file.seek(content + size)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        name, offset = _vint(data, offset, keep_marker=True)
        size, offset = _vint(data, offset)
        yield name, data[offset : offset + size]
        offset += size


def _vint(data: bytes, offset: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """A number of variable length (RFC 8794, 4), and where the next byte is."""
    if not data[offset]:
        raise ValueError("longer than eight bytes")
    length = 9 - data[offset].bit_length()
    value = int.from_bytes(data[offset : offset + length], "big")
    return (value if keep_marker else value & ((1 << 7 * length) - 1)), offset + length


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _mp4_crop(file: BinaryIO, track: int, width: int, height: int) -> Crop:
    """Of the track with the id ``track``, whose pictures have this size before the crop."""
    size = os.fstat(file.fileno()).st_size
    for trak in (box for moov in _named(file, (0, size), b"moov") for box in _named(file, moov, b"trak")):
        head = next(_named(file, trak, b"tkhd"))
        file.seek(head[0])
        version = file.read(24)
        if struct.unpack_from(">I", version, 20 if version[0] else 12)[0] != track:
            continue
        boxes = trak
        for name in _TO_SAMPLE_ENTRIES:
            boxes = next(_named(file, boxes, name))
        # What comes before its boxes is of a fixed length, in the table of entries and in an entry of video.
        for _, entry in _boxes(file, (boxes[0] + 8, boxes[1])):
            for clap in _named(file, (entry[0] + 78, entry[1]), b"clap"):
                file.seek(clap[0])
                return _aperture(file.read(32), width, height)
            return NO_CROP
    return NO_CROP


def _named(file: BinaryIO, within: _Range, name: bytes) -> Iterator[_Range]:
    return (content for each, content in islice(_boxes(file, within), MOST_PARTS) if each == name)


def _boxes(file: BinaryIO, within: _Range) -> Iterator[tuple[bytes, _Range]]:
    """Name and content of each box in a part of the file; only their heads are read."""
    offset, end = within
    while offset + 8 <= end:
        file.seek(offset)
        head = file.read(16)
        size, content = int.from_bytes(head[:4], "big"), offset + 8
        if size == 1:
            size, content = int.from_bytes(head[8:], "big"), offset + 16
        elif size == 0:
            size = end - offset
        if offset + size < content:
            return
        yield head[4:8], (content, min(end, offset + size))
        offset += size


def _aperture(clap: bytes, width: int, height: int) -> Crop:
    numbers = struct.unpack_from(">IIIIiIiI", clap)
    wide, high, x_off, y_off = (Fraction(*numbers[k : k + 2]) for k in range(0, 8, 2))
    left, top = (width - wide) / 2 + x_off, (height - high) / 2 + y_off
    crop = Crop(int(left), width - int(left) - int(wide), int(top), height - int(top) - int(high))
    return crop if min(crop) >= 0 and crop.fits(width, height) else NO_CROP

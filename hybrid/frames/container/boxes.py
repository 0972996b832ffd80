"""What the boxes of MP4 and the elements of Matroska say that FFmpeg's library does not pass on.

* The crop on top of the codec's own: ``PixelCropTop``, ``-Bottom``, ``-Left``, ``-Right`` of a Matroska track
  (RFC 9559, 5.1.4.1.28); the clean aperture ``clap`` of an MP4 track's first sample entry (ISO/IEC 14496-12, 12.1.4).
  ffmpeg's command line applies both, before it turns the picture. What makes no sense is no crop.
* How many bytes the file lacks, and where a second movie begins in it.

Only the heads of boxes and elements are read (ISO/IEC 14496-12, 4.2; RFC 8794, 5 to 6).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.values import ByteArray

if TYPE_CHECKING:
    import av

__all__ = ["NO_CROP", "Crop", "bytes_missing", "container_crop", "second_movie"]

MOST_PARTS = 10_000
"""So many parts of one level are looked at: a file may be made of empty ones."""
MOST_TRACKS_BYTES = 2**20
"""The tracks of a Matroska file are searched for a crop unless they are larger."""
MOST_OUTERMOST = 100_000
"""The same for the outermost level, where fragments lie side by side."""

_SEGMENT, _TRACKS, _CLUSTER = 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK_ENTRY, _TRACK_TYPE, _VIDEO = 0xAE, 0x83, 0xE0
_PIXEL_CROPS = (0x54CC, 0x54DD, 0x54BB, 0x54AA)
_OUTERMOST_ELEMENTS = frozenset({0x1A45DFA3, _SEGMENT, 0xEC, 0xBF})
"""EBML header, Segment, Void, CRC-32."""
_OUTERMOST_BOXES = frozenset(
    b"ftyp styp moov moof mdat free skip wide mfra sidx ssix prft uuid meta pdin udta pnot PICT emsg".split()
)
"""What stands outermost in MP4 and QuickTime files; other bytes behind the last one are none of them."""
_DAMAGE = (OSError, ValueError, IndexError, KeyError, StopIteration, struct.error, ZeroDivisionError)
"""What parsing raises where the file is cut or makes no sense."""


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


class _Part(NamedTuple):
    """A box or an element: its name, and the offsets of its head, its content, and the byte behind it as stated."""

    name: int | bytes
    begin: int
    content: int
    end: int


def container_crop(path: str, container: InputContainer, stream: VideoStream) -> Crop:
    """The crop that the container of a file asks for; none if it asks for none or cannot be read."""
    formats = container.format.name.split(",")
    try:
        with open(path, "rb") as file:
            whole = _Part(b"", 0, 0, os.path.getsize(path))
            if "matroska" in formats:
                number = [other.index for other in container.streams.video].index(stream.index)
                return _matroska_crop(file, whole, number)
            if "mp4" in formats:
                return _mp4_crop(file, whole, stream.id, stream.width, stream.height)
    except _DAMAGE:
        pass
    return NO_CROP


def bytes_missing(path: str, *, is_mov: bool, is_matroska: bool) -> int:
    """How many bytes the outermost parts of a file claim beyond its end; 0 where its form does not tell."""
    if not is_mov and not is_matroska:
        return 0
    size = os.path.getsize(path)
    walk, names = (_boxes, _OUTERMOST_BOXES) if is_mov else (_elements, _OUTERMOST_ELEMENTS)
    end = 0
    try:
        with open(path, "rb") as file:
            for part in walk(file, 0, size):
                if part.name not in names:
                    return 0
                end = part.end
    except _DAMAGE:
        return 0
    return max(0, end - size)


def second_movie(file: BinaryIO, size: int) -> int | None:
    """Where a second ``ftyp`` begins, that is after a movie's data or its header; None if there is none."""
    movie = False
    for box in islice(_boxes(file, 0, size), MOST_OUTERMOST):
        if box.name == b"ftyp" and movie:
            return box.begin
        movie |= box.name in (b"moov", b"mdat")
    return None


def _matroska_crop(file: BinaryIO, whole: _Part, number: int) -> Crop:
    """Of the video track that is ``number`` among those of video."""

    def children(part: _Part) -> Iterator[_Part]:
        return islice(_elements(file, part.content, min(part.end, whole.end)), MOST_PARTS)

    def value(parts: dict[int | bytes, _Part], name: int) -> int:
        if name not in parts:
            return 0
        file.seek(parts[name].content)
        return int.from_bytes(file.read(min(8, parts[name].end - parts[name].content)), "big")

    segment = next(part for part in children(whole) if part.name == _SEGMENT)
    tracks = next(part for part in children(segment) if part.name in (_TRACKS, _CLUSTER))
    if tracks.end - tracks.content > MOST_TRACKS_BYTES:
        return NO_CROP
    entries = [
        {part.name: part for part in children(entry)} for entry in children(tracks) if entry.name == _TRACK_ENTRY
    ]
    videos = [entry for entry in entries if value(entry, _TRACK_TYPE) == 1]
    video = {part.name: part for part in children(videos[number][_VIDEO])}
    return Crop(*(value(video, name) for name in _PIXEL_CROPS))


def _elements(file: BinaryIO, begin: int, end: int) -> Iterator[_Part]:
    """The elements in a part of a Matroska file; one of unknown length goes on to the end of the part."""
    while begin < end:
        file.seek(begin)
        head = file.read(12)
        name, name_bytes = _vint(head, 0)
        size, size_bytes = _vint(head, name_bytes)
        content = begin + name_bytes + size_bytes
        size &= (1 << 7 * size_bytes) - 1
        stated = content + size if size != (1 << 7 * size_bytes) - 1 else end
        yield _Part(name, begin, content, stated)
        begin = stated


def _vint(data: bytes, offset: int) -> tuple[int, int]:
    """A number of variable length with its marker (RFC 8794, 4), and how many bytes it takes."""
    if not data[offset]:
        raise ValueError("longer than eight bytes")
    length = 9 - data[offset].bit_length()
    return int.from_bytes(data[offset : offset + length], "big"), length


def _mp4_crop(file: BinaryIO, whole: _Part, track: int, width: int, height: int) -> Crop:
    """Of the track with the id ``track``, whose pictures have this size before the crop."""

    def children(part: _Part, name: bytes, *, skip: int = 0) -> Iterator[_Part]:
        boxes = _boxes(file, part.content + skip, min(part.end, whole.end))
        return (box for box in islice(boxes, MOST_PARTS) if box.name == name or not name)

    for trak in (trak for moov in children(whole, b"moov") for trak in children(moov, b"trak")):
        file.seek(next(children(trak, b"tkhd")).content)
        head = file.read(24)
        if struct.unpack_from(">I", head, 20 if head[0] else 12)[0] != track:
            continue
        table = trak
        for name in (b"mdia", b"minf", b"stbl", b"stsd"):
            table = next(children(table, name))
        # What comes before its boxes is of a fixed length, in the table of entries and in an entry of video.
        entry = next(children(table, b"", skip=8))
        file.seek(next(children(entry, b"clap", skip=78)).content)
        return _aperture(file.read(32), width, height)
    return NO_CROP


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[_Part]:
    """The boxes in a part of an MP4 file; one of length 0 goes on to the end of the part."""
    while begin + 8 <= end:
        file.seek(begin)
        head = file.read(16)
        length, content = int.from_bytes(head[:4], "big"), begin + 8
        if length == 1:
            length, content = int.from_bytes(head[8:], "big"), begin + 16
        elif length == 0:
            length = end - begin
        if begin + length < content:
            return
        yield _Part(head[4:8], begin, content, begin + length)
        begin += length


def _aperture(clap: bytes, width: int, height: int) -> Crop:
    numbers = struct.unpack_from(">IIIIiIiI", clap)
    wide, high, x_off, y_off = (Fraction(*numbers[k : k + 2]) for k in range(0, 8, 2))
    left, top = (width - wide) / 2 + x_off, (height - high) / 2 + y_off
    crop = Crop(int(left), width - int(left) - int(wide), int(top), height - int(top) - int(high))
    return crop if min(crop) >= 0 and crop.fits(width, height) else NO_CROP

"""What of a file the scan did not read: a video that goes on in another stream, or another file appended to it.

The search is cheap: the offsets of the packets that were read tell where something else may be, and only that is
opened. What is reported was opened and holds a video, so trailing indexes, tags and padding are not mistaken for one.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from hybrid.errors import VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.container.boxes import second_movie
from hybrid.frames.container.open import open_container, packet_times, real_videos
from hybrid.values import IntArray

__all__ = ["find_unread"]

LEAST_SECONDS = 1.0
"""A stream that goes on for less than this is no second part; streams seldom end together."""
LEAST_BYTES = 256
"""No video file is shorter."""
GAP_BYTES = 16 * 1024
"""So many bytes without a packet of the stream are looked into, where there are other video streams."""
MOST_GAPS = 16
SEARCH_BYTES = 4 * 2**20
"""How far after the last packet the beginning of another file is looked for."""
_IMAGE_BRANDS = frozenset({"avif", "avis", "heic", "heis", "heix", "hevc", "hevx", "mif1", "msf1"})
"""AVIF and HEIF, whose further streams are a still picture and the planes of alpha."""

_SIGNATURES = {
    "matroska": b"\x1a\x45\xdf\xa3",
    "flv": b"FLV\x01",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "apng": b"\x89PNG\r\n\x1a\n",
    "avi": b"RIFF",
    "gif": b"GIF8",
    "ivf": b"DKIF\0\0",
    "nut": b"nut/multimedia container\0",
    "ogg": b"OggS\0\x02",
    "rm": b".RMF",
    "swf": b"WS",  # FWS, CWS, ZWS
    "wtv": bytes.fromhex("b7d800203749da11a64e0007e95ead8d"),
}
"""How a file begins, by the demuxer. MPEG streams are read on wherever another one begins; MP4 has boxes instead."""
_BEFORE = {"swf": 1}


def find_unread(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    *,
    span: tuple[float, float],
    positions: IntArray,
    sizes: IntArray,
) -> tuple[list[str], bool]:
    """Look for video that a scan has passed over.

    Args:
        path: the file.
        container, stream: what was scanned, to its end.
        span: when the stream begins and ends, in seconds on the clock of its packets.
        positions, sizes: int64 [N], bytes; where the packets lie and how long they are (position -1: not known).

    Returns:
        Notes on what was not read, one sentence each; and whether the video itself goes on there.
    """
    located = positions >= 0
    if not located.any():
        return [], False
    order = np.argsort(positions[located], kind="stable")
    begins = positions[located][order]
    ends = np.maximum.accumulate(begins + sizes[located][order])
    others = [other for other in real_videos(container) if other.index != stream.index]
    notes = []
    if others:
        in_order = container.format.name.startswith("mpeg")
        seconds = _seconds_in_gaps(path, stream, begins, ends) if in_order else _seconds_outside(path, others, span)
        if seconds >= LEAST_SECONDS:
            numbers = ", ".join(str(other.index) for other in others)
            which = f"stream {numbers}" if len(others) == 1 else f"one of the streams {numbers}"
            notes.append(
                f"{seconds:.1f} s of video in another stream of the file were not read; to index them, make a file of "
                f"it ({which}): ffmpeg -i FILE -map 0:{others[0].index} -c copy SECOND.mkv"
            )
    notes += _appended(path, container, begins, ends)
    if notes or container.metadata.get("major_brand") in _IMAGE_BRANDS:
        return notes, bool(notes)
    others = [other for other in others if other.width]  # none: announced, but without data
    if others:
        listed = ", ".join(f"{other.width}x{other.height}" for other in others)
        number = plural(len(others), "more video stream runs", "more video streams run")
        notes.append(f"{number} beside this one and {'is' if len(others) == 1 else 'are'} not read ({listed})")
    return notes, False


def _seconds_in_gaps(path: str, stream: VideoStream, begins: IntArray, ends: IntArray) -> float:
    """In MPEG streams bytes are in order of time, and any stretch of them can be read by itself."""
    size = os.path.getsize(path)
    starts, stops = np.append(0, ends), np.append(begins, size)
    widest = np.argsort(starts - stops, kind="stable")[:MOST_GAPS]
    seconds = 0.0
    for gap in widest[stops[widest] - starts[widest] >= GAP_BYTES]:
        seconds += _seconds_of(path, int(starts[gap]), int(stops[gap]), without=stream.id)
    return seconds


def _seconds_of(path: str, begin: int, end: int, *, without: int | None = None) -> float:
    """How long the video is in a part of a file that can be read by itself; 0.0 where there is none."""
    streams: dict[int, _Extent] = {}
    try:
        with (
            open(path, "rb", buffering=0) as file,
            open_container(cast(BinaryIO, _Part(file, begin, end))) as container,
        ):
            videos = [video for video in real_videos(container) if video.id != without]
            for packet, start, stop in packet_times(container, videos):
                streams.setdefault(packet.stream_index, _Extent()).add(packet.pos or 0, start, stop)
    except (VideoOpenError, av.error.FFmpegError, IndexError, OSError):
        return 0.0
    return _one_after_another(list(streams.values()))


@dataclass(slots=True)
class _Extent:
    """The bytes and the seconds that a stream's packets span."""

    first: float = math.inf
    last: float = -math.inf
    low: float = math.inf
    high: float = -math.inf

    def add(self, position: int, start: float, stop: float) -> None:
        self.first, self.last = min(self.first, position), max(self.last, position)
        self.low, self.high = min(self.low, start), max(self.high, stop)


def _one_after_another(extents: list[_Extent]) -> float:
    """Seconds of all streams; of those that run beside one another the longest counts."""
    total = longest = 0.0
    end = -math.inf
    for extent in sorted(extents, key=lambda extent: extent.first):
        if extent.first > end:
            total, longest = total + longest, 0.0
        longest, end = max(longest, extent.high - extent.low), max(end, extent.last)
    return total + longest


def _seconds_outside(path: str, others: Sequence[VideoStream], span: tuple[float, float]) -> float:
    """How much of other streams lies before the beginning or behind the end of the one that was read."""
    stated = [_stated_bounds(other) for other in others]
    known = [bounds for bounds in stated if bounds is not None]
    if len(known) < len(stated):
        known = [_read_bounds(path, [other.index for other in others], span)]
    before = span[0] - min(low for low, _ in known)
    behind = max(high for _, high in known) - span[1]
    return sum(part for part in (before, behind) if part >= LEAST_SECONDS)


def _stated_bounds(stream: VideoStream) -> tuple[float, float] | None:
    if stream.start_time is None or not stream.duration or not stream.time_base:
        return None
    return float(stream.start_time * stream.time_base), float((stream.start_time + stream.duration) * stream.time_base)


def _read_bounds(path: str, indexes: Sequence[int], span: tuple[float, float]) -> tuple[float, float]:
    """When the streams begin and end, as far as that is outside of ``span``: only there their packets are read."""
    low, high = span
    with open_container(path) as container:
        for stream in container.streams:
            stream.discard = Discard.default if stream.index in indexes else Discard.all
        videos = [video for video in container.streams.video if video.index in indexes]
        try:
            for start, stop in ((None, span[0]), (span[1], math.inf)):
                if start is not None:
                    container.seek(max(0, int(start * av.time_base)))
                for _, time, end in packet_times(container, videos):
                    low, high = min(low, time), max(high, end)
                    if time >= stop:
                        break
        except (av.error.FFmpegError, IndexError):
            pass  # damaged there; what was seen counts
    return low, high


def _appended(path: str, container: InputContainer, begins: IntArray, ends: IntArray) -> list[str]:
    """Whether another file of the same kind is appended, none of whose packets were read."""
    size = os.path.getsize(path)
    kind = container.format.name.split(",")[0]
    end = int(ends[-1])
    with open(path, "rb", buffering=0) as file:
        if kind == "mov":
            begin = second_movie(file, size) if size - end >= LEAST_BYTES else None
        else:
            # The last packet may have swallowed the beginning of what follows.
            begin = _signature(file, kind, max(1, int(begins[-1]) - 64), max(end, int(begins[-1])) + SEARCH_BYTES)
    if begin is None or size - begin < LEAST_BYTES or begin <= int(begins[0]):
        return []
    # Fragments of a second movie are read on where they count from themselves. Where they count from the beginning of
    # their own file, what is read in their name is data of the first movie, for the second time.
    if kind == "mov" and begins[-1] > begin and not (begins[1:] < ends[:-1]).any():
        return []
    seconds = _seconds_of(path, begin, size)
    if not seconds:
        return []
    return [
        f"another video of {seconds:.1f} s is appended at byte {begin:,} of {size:,} and was not read; to index it, "
        f"make a file of it: tail -c +{begin + 1} FILE > SECOND"
    ]


def _signature(file: BinaryIO, kind: str, begin: int, end: int) -> int | None:
    signature = _SIGNATURES.get(kind)
    if signature is None:
        return None
    file.seek(begin)
    found = file.read(end - begin).find(signature)
    return None if found < 0 else begin + found - _BEFORE.get(kind, 0)


class _Part(io.RawIOBase):
    """A stretch of a file as a file."""

    def __init__(self, file: io.RawIOBase, begin: int, end: int) -> None:
        self._file, self._begin, self._end, self._at = file, begin, end, begin

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(self._begin, (self._begin, self._at, self._end)[whence] + offset)
        return self._at - self._begin

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._end - self._at)
        self._file.seek(self._at)
        data = self._file.read(left if size < 0 else min(size, left)) or b""
        self._at += len(data)
        return data

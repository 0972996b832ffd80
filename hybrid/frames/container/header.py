"""What a container states of its video before any packet is read, and what its other parts say about its end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.frames.container.open import open_container

__all__ = ["Header", "bytes_missing", "other_streams_end"]


@dataclass(frozen=True, slots=True)
class Header:
    """Starts and lengths as stated, taken when the file was opened. Seconds on the container's clock.

    Attributes:
        is_mov: an MP4 or QuickTime file.
        is_matroska: a Matroska or WebM file.
        start: where the container begins; None if it does not say.
        stream_start: where the video stream begins; None if it does not say.
        stream_length: how long the video stream is; None if it does not say.
        length: how long the container is; None if it does not say.
    """

    is_mov: bool
    is_matroska: bool
    start: Fraction | None
    stream_start: Fraction | None
    stream_length: Fraction | None
    length: Fraction | None

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> Header:
        """Take the statements of a container and its chosen stream that were just opened."""
        base = stream.time_base or Fraction(0)
        start = cast("int | None", container.start_time)  # PyAV's stub leaves the None out.
        return cls(
            is_mov="mp4" in container.format.name.split(","),
            is_matroska=container.format.name.startswith("matroska"),
            start=None if start is None else Fraction(start, 1_000_000),
            stream_start=None if stream.start_time is None else stream.start_time * base,
            stream_length=stream.duration * base if stream.duration and base else None,
            length=Fraction(container.duration, 1_000_000) if container.duration else None,
        )

    @property
    def stream_states_length(self) -> bool:
        """Whether the video stream itself says how long it is."""
        return self.stream_length is not None

    def end_seconds(self) -> float | None:
        """Where the video ends on the timeline whose zero is the container's start, as stated.

        None if it is not, or cannot be: some files begin late and count their length from there.
        """
        end = self._stated_end()
        return end if end is not None and end > 0 else None

    def _stated_end(self) -> float | None:
        start = self.start or Fraction(0)
        if self.stream_length is not None:
            # In MP4, the length of a stream that begins with an empty edit counts from zero, not from its start.
            begin = Fraction(0) if self.is_mov else self.stream_start or Fraction(0)
            return float(begin + self.stream_length - start)
        if self.length is None:
            return None
        # In Matroska this is a time on the clock of the file, which need not begin at 0.
        return float(self.length - (max(Fraction(0), start) if self.is_matroska else 0))


def other_streams_end(path: str, chosen: int) -> float | None:
    """Where the last packet of all streams but the chosen one ends, in seconds on the timeline.

    Returns:
        None if there are no other streams, or they cannot be read.
    """
    latest = None
    with open_container(path) as container:
        start = (cast("int | None", container.start_time) or 0) / 1e6
        others = [stream for stream in container.streams if stream.index != chosen]
        if not others:
            return None
        try:
            for packet in container.demux(others):
                if packet.pts is not None and packet.time_base:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - start
                    latest = end if latest is None else max(latest, end)
        except av.error.FFmpegError:
            return None
    return latest


def bytes_missing(path: str, header: Header) -> int:
    """How many bytes the outermost parts of a file claim beyond its end; 0 where its form does not tell.

    Those are the boxes of MP4 and QuickTime (ISO/IEC 14496-12, 4.2) and the elements of Matroska (RFC 8794, 5 to 6).
    """
    length_at = _box_length if header.is_mov else _element_length if header.is_matroska else None
    size = os.path.getsize(path)
    offset = 0
    with open(path, "rb") as file:
        while length_at is not None and offset + 8 <= size:
            file.seek(offset)
            length = length_at(file.read(16))
            if length is None:
                return 0
            offset += length
    return max(0, offset - size)


_BOXES = frozenset(
    b"ftyp styp moov moof mdat free skip wide mfra sidx ssix prft uuid meta pdin udta pnot PICT emsg".split()
)
"""What stands outermost in MP4 and QuickTime files; other bytes behind the last one are none of them."""

_ELEMENTS = frozenset(map(bytes.fromhex, ("1a45dfa3", "18538067", "ec", "bf")))
"""EBML header, Segment, Void, CRC-32: all that stands outermost in Matroska."""


def _box_length(head: bytes) -> int | None:
    """Bytes of the box that begins with ``head``; None if it goes on to the end of the file, or is no box."""
    if head[4:8] not in _BOXES:
        return None
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return length if length >= 8 else None


def _element_length(head: bytes) -> int | None:
    """Bytes of the element that begins with ``head``, likewise."""
    id_bytes = 9 - head[0].bit_length()
    first = head[id_bytes] if id_bytes <= 4 < len(head) - 8 else 0
    size_bytes = 9 - first.bit_length()
    if head[:id_bytes] not in _ELEMENTS or id_bytes > 4 or size_bytes > 8:
        return None
    mask = (1 << 7 * size_bytes) - 1
    content = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & mask
    return None if content == mask else id_bytes + size_bytes + content  # all ones: the length is not known

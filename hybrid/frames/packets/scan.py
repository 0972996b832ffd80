"""Reading a video file's packets: once all of them, which tells what they are, and again any stretch of them.

A packet that is read again is compared with what the scan recorded, so that a seek that lands elsewhere is noticed
instead of believed: containers differ in how well they seek (MPEG-TS badly).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.container.boxes import Crop, bytes_missing, container_crop
from hybrid.frames.container.open import Header, VideoPacket, open_stream, other_streams_end, packets_of
from hybrid.frames.container.unread import find_unread
from hybrid.frames.packets.bitstream import KeyPackets
from hybrid.frames.packets.plan import NO_PTS, Clock, Packets, unsafe_reason
from hybrid.frames.packets.timeline import CUT_SECONDS, in_order_of_decoding, last_end, stream_times
from hybrid.values import IntArray

__all__ = ["Movie", "PacketReader", "scan"]

BoolArray = npt.NDArray[np.bool_]

NEAR_PACKETS = 48
"""Going on this many packets is cheaper than a seek."""
NEAR_PACKETS_MPEG = 4000
"""The same where there is no index and a seek is a search through the file."""
MOST_TIMES_READ = 16
SPARE_BYTES = 2**26
"""A file whose packets add up to more than so many times its size, plus this, repeats its data."""
CHECK_EVERY = 4096
TS_PACKET_BYTES = 188
FAILED_SEEKS = 3
"""After so many jumps in a row that failed, the container is taken for one that cannot seek."""


@dataclass(frozen=True, slots=True, eq=False)
class Movie:
    """What one pass over a file's packets found.

    Attributes:
        path: the file.
        stream: index of the chosen video stream.
        keys: judged its key packets; knows the codec, and what of it may be left out.
        packets: for :mod:`hybrid.frames.packets.plan`.
        flagged: bool [N], which packets the container calls key packets, true or not.
        times: int64 [N], when their frames are shown, as far as the packets tell. They differ from
            ``packets.pts`` where the clock starts over: what follows is moved behind what came before.
        counted: the packets do not tell: the n-th frame that comes out has the n-th smallest time.
        sizes, positions: int64 [N], size and byte offset of every packet (-1: not known).
        clock: the timeline.
        end_seconds: where the last frame ends.
        unsafe: why every packet must be decoded; None: packets may be left out.
        near: up to so many packets are read past rather than sought over.
        crop: what the container leaves out at the sides of each picture.
        cut: whether some of the video is not on the timeline: the file lacks its end, could not be
            read to its end, or packets with impossible time stamps are left out.
        note: what the caller should know of the file; or None.
    """

    path: str
    stream: int
    keys: KeyPackets
    packets: Packets
    flagged: BoolArray
    times: IntArray
    counted: bool
    sizes: IntArray
    positions: IntArray
    clock: Clock
    end_seconds: float
    unsafe: str | None
    near: int
    crop: Crop
    cut: bool
    note: str | None


def scan(path: str | Path) -> Movie:
    """Demux the whole file once, without decoding.

    Raises:
        VideoOpenError: it cannot be opened, or its video stream holds no packet.
        NoVideoStreamError: it has no video stream.
    """
    container, stream = open_stream(path)
    with container:
        context = stream.codec_context
        assert context is not None
        codec = context.codec.canonical_name
        keys = KeyPackets(codec, bytes(context.extradata or b""))
        # Now, because FFmpeg changes some of them while it reads.
        header = Header.of(container, stream)
        table = _Table(keys, file_bytes=os.path.getsize(path))
        table.read_all(container, stream)
        if table.read_error and table.ends_before_padding(path):
            table.read_error = None
        if not table.pts:
            raise VideoOpenError(f"{path}: its video stream holds no data; the file is cut or damaged")
        return _movie(str(path), container, stream, header, keys, table)


class _Table:
    """Collects the packets of one pass, in columns: 44 bytes a packet."""

    def __init__(self, keys: KeyPackets, *, file_bytes: int | None = None) -> None:
        self.keys = keys
        self.file_bytes = file_bytes
        self.read_bytes = 0
        self.pts, self.dts, self.durations, self.sizes, self.positions = (array("q") for _ in range(5))
        self.shown, self.flagged, self.alone, self.entry = (bytearray() for _ in range(4))
        self.new_headers = False
        self.read_error: str | None = None

    def read_all(self, container: InputContainer, stream: VideoStream) -> None:
        errors: list[str] = []
        reads_all = self.keys.reads_all
        for packet in packets_of(container, stream, errors):
            alone = entry = False
            if packet.is_keyframe:
                alone, entry = self._judge(packet)
            if reads_all:
                self.keys.look_at(bytes(packet))
            self.pts.append(NO_PTS if packet.pts is None else packet.pts)
            self.dts.append(NO_PTS if packet.dts is None else packet.dts)
            self.durations.append(packet.duration or 0)
            self.sizes.append(packet.size)
            self.positions.append(-1 if packet.pos is None else packet.pos)
            self.shown.append(not packet.is_discard)
            self.flagged.append(packet.is_keyframe)
            self.alone.append(alone)
            self.entry.append(entry)
            del errors[:-1]  # Only the last one is reported.
            if not len(self.sizes) % CHECK_EVERY and self.file_bytes is not None:
                self.read_bytes += sum(self.sizes[-CHECK_EVERY:])
                _check_repeats(self.read_bytes, self.file_bytes)
        if errors:
            self.read_error = errors[-1]

    def ends_before_padding(self, path: str | Path) -> bool:
        """Whether nothing but one repeated byte follows the last packet, as in recordings that reserved their file."""
        end = max(
            (offset + size for offset, size in zip(self.positions, self.sizes, strict=True) if offset >= 0), default=-1
        )
        if end < 0:
            return False
        with open(path, "rb") as file:
            file.seek(end + TS_PACKET_BYTES)  # the last packet's own stuffing
            last = file.read(1)
            return bool(last) and all(part.count(last) == len(part) for part in iter(partial(file.read, 2**20), b""))

    def _judge(self, packet: VideoPacket) -> tuple[bool, bool]:
        if self.pts and packet.has_sidedata("new_extradata"):
            self.new_headers = True
        verdict = self.keys.judge(bytes(packet) if self.keys.reads_bytes else b"")
        return verdict.alone, verdict.entry


def _check_repeats(read: int, file_bytes: int) -> None:
    if read > MOST_TIMES_READ * file_bytes + SPARE_BYTES:
        raise VideoOpenError(
            f"its packets amount to {read} bytes in a file of {file_bytes}: an edit list or a table shows the same "
            f"data again and again; at most {MOST_TIMES_READ} times the file are read"
        )


def _movie(
    path: str, container: InputContainer, stream: VideoStream, header: Header, keys: KeyPackets, table: _Table
) -> Movie:
    # Views, not copies: the table is not touched any more.
    pts, dts = np.frombuffer(table.pts, np.int64), np.frombuffer(table.dts, np.int64)
    shown = np.frombuffer(table.shown, np.bool_)
    by_count = keys.packed or bool((pts == NO_PTS).all()) or in_order_of_decoding(container, stream, pts)
    # Where pictures are packed, the parser's guess at each packet's time is a better one than the order of bytes.
    stamps = pts if keys.packed else dts
    found = stream_times(container, stream, header, pts, stamps, shown, by_count=by_count)
    clock = found.clock
    shown &= ~found.wild
    packets = Packets(pts, shown, np.frombuffer(table.alone, np.bool_), np.frombuffer(table.entry, np.bool_))
    notes = [f"read error: {table.read_error}"] if table.read_error else []
    notes += found.notes
    valid = shown & (found.times != NO_PTS)
    durations = np.frombuffer(table.durations, np.int64)
    others_end = cache(partial(other_streams_end, path, stream.index))
    end, end_notes, stated = last_end(found, durations, valid, stream, others_end)
    notes += end_notes
    cut = _cut_reason(path, header, end, stated, others_end)
    if cut is not None:
        notes.append(cut)
    sizes, positions = np.frombuffer(table.sizes, np.int64), np.frombuffer(table.positions, np.int64)
    begin = float(clock.seconds(int(found.times[valid].min()))) if valid.any() else 0.0
    span = (begin + float(clock.zero), end + float(clock.zero))
    unread, goes_on = find_unread(path, container, stream, span=span, positions=positions, sizes=sizes)
    notes += unread
    return Movie(
        path=path,
        stream=stream.index,
        keys=keys,
        packets=packets,
        flagged=np.frombuffer(table.flagged, np.bool_),
        times=found.times,
        counted=by_count,
        sizes=sizes,
        positions=positions,
        clock=clock,
        end_seconds=end,
        unsafe=_unsafe_reason(packets, table, by_count, found.jumps),
        near=NEAR_PACKETS_MPEG if container.format.name.startswith("mpeg") else NEAR_PACKETS,
        crop=container_crop(path, container, stream),
        cut=cut is not None or table.read_error is not None or bool(found.wild.any()) or goes_on,
        note="; ".join(notes) or None,
    )


def _unsafe_reason(packets: Packets, table: _Table, by_count: bool, jumps: tuple[int, ...]) -> str | None:
    if jumps:
        return "the clock jumps back"
    if table.keys.packed:
        return "packets with several pictures each (packed B-frames)"
    if table.new_headers:
        return "the header changes on the way"
    if by_count:
        return "packets without time stamps of their own"
    return unsafe_reason(packets)


def _cut_reason(
    path: str, header: Header, end: float, stated: float | None, others_end: Callable[[], float | None]
) -> str | None:
    """What shows that the file lacks its end, with how much is missing; None if nothing does.

    If only the container's length is known, it may be that of another stream (sound, subtitles, data).
    """
    lacking = bytes_missing(path, is_mov=header.is_mov, is_matroska=header.is_matroska)
    short = stated is not None and stated > 0 and end < stated - CUT_SECONDS
    if not lacking:
        if not short:
            return None
        lasts = None if header.stream_length is not None else others_end()
        if stated is not None and lasts is not None and lasts >= stated - CUT_SECONDS:
            return None
    states = f"the container states {stated:.2f} s, " if short else ""
    lacks = f"; the file lacks its last {plural(lacking, 'byte')}" if lacking else ""
    return f"cut: {states}its video packets end at {end:.2f} s{lacks}"


class PacketReader:
    """Reads packets of a scanned file again, any stretch of them. Not for use by several threads.

    Attributes:
        context: a decoder of its own, with one thread.
    """

    def __init__(self, movie: Movie) -> None:
        self._movie = movie
        self._failed = 0
        self._open()

    def _open(self) -> None:
        self._container, self._stream = open_stream(self._movie.path, index=self._movie.stream)
        context = self._stream.codec_context
        assert context is not None
        self.context = context
        self._packets = packets_of(self._container, self._stream, [])
        self._next = 0

    @property
    def next_packet(self) -> int:
        """The number of the packet that comes next."""
        return self._next

    def packets(self, start: int, last: int) -> Iterator[tuple[int, VideoPacket]]:
        """The packets ``start`` .. ``last`` (inclusive) with their positions in decode order.

        Raises:
            FrameDecodeError: the file is not the one that was scanned any more.
            VideoOpenError: it cannot be opened again, or no longer has the stream.
        """
        waiting = self._go_to(start)
        while self._next <= last:
            packet = waiting or next(self._packets, None)
            waiting = None
            if packet is None or not self._is(packet, self._next):
                raise FrameDecodeError(f"{self._movie.path} changed while it was read, at packet {self._next}")
            index = self._next
            self._next += 1
            if index >= start:
                yield index, packet

    def _is(self, packet: VideoPacket, index: int) -> bool:
        movie = self._movie
        pts = NO_PTS if packet.pts is None else packet.pts
        position = -1 if packet.pos is None else packet.pos
        return bool(
            movie.packets.pts[index] == pts and movie.sizes[index] == packet.size and movie.positions[index] == position
        )

    def _go_to(self, start: int) -> VideoPacket | None:
        """Stand before packet ``start`` or earlier; a packet that was read to find out is returned."""
        if 0 <= start - self._next <= self._movie.near:
            return None
        time = int(self._movie.packets.pts[start])
        if self._failed < FAILED_SEEKS and start > 0 and time != NO_PTS:
            second = int(1 / self._movie.clock.time_base) or 1
            for target in (time, time - second):
                packet = self._seek(target, start)
                if packet is not None:
                    self._failed = 0
                    return packet
            # Where it stands now is not known.
            self._failed += 1
            self._restart()
        elif start < self._next:
            self._restart()
        return None

    def _seek(self, target: int, start: int) -> VideoPacket | None:
        """Seek, and find out where that is. None if not surely at ``start`` or before it."""
        try:
            self._container.seek(target, stream=self._stream)
        except av.error.FFmpegError:
            return None
        self._packets = packets_of(self._container, self._stream, [])
        packet = next(self._packets, None)
        if packet is None or packet.pts is None:
            return None
        matches = np.flatnonzero((self._movie.packets.pts == packet.pts) & (self._movie.sizes == packet.size))
        if len(matches) != 1 or matches[0] > start or not self._is(packet, int(matches[0])):
            return None
        self._next = int(matches[0])
        return packet

    def _restart(self) -> None:
        self._container.close()
        self._open()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._container.close()

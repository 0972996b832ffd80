"""One pass over a video file's packets, without decoding: what they say of themselves, and the timeline."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.errors import VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.bitstream import NONREF_SAFE, KeyPackets
from hybrid.frames.container import VideoPacket, open_stream, packets_of
from hybrid.frames.crop import Crop, container_crop
from hybrid.frames.header import Header, bytes_missing, other_streams_end
from hybrid.frames.plan import NO_PTS, Clock, Packets, why_unsafe
from hybrid.frames.timestamps import OUTLIER_SECONDS, Jumps, clock_jumps, outliers, put_behind, usual_step
from hybrid.frames.unread import find_unread
from hybrid.values import IntArray

__all__ = ["Movie", "scan"]

BoolArray = npt.NDArray[np.bool_]

NEAR_PACKETS = 48
"""Going on this many packets is cheaper than a seek."""
NEAR_PACKETS_MPEG = 4000
"""The same where there is no index and a seek is a search through the file."""
MPEG_HALF_TURN = 2**32
"""Half of what the 33 bits of MPEG's clock can count (13 hours). FFmpeg takes a time stamp that goes
back by more than a minute for a clock that has run over, and adds the whole."""
LONGEST_HOLD_SECONDS = 60.0
"""A last frame that claims to be shown longer than this, and than all that comes before it, needs a witness."""
MOST_TIMES_READ = 16
SPARE_BYTES = 2**26
"""A file whose packets amount to more than so many times its size, and this, shows its data again and again."""
CHECK_EVERY = 4096
TS_PACKET_BYTES = 188
CUT_SECONDS = 0.5
"""Packets that end this much before the length that the container states mean a cut file."""
LONG_FRAME_STEPS = 100
"""A last frame that claims to be shown longer than so many usual ones is not believed without more ado."""


@dataclass(frozen=True, slots=True, eq=False)
class Movie:
    """What one pass over a file's packets found.

    Attributes:
        path: the file.
        stream: index of the chosen video stream.
        codec: its codec's name.
        packets: for :mod:`hybrid.frames.plan`.
        flagged: bool [N], which packets the container calls key packets, true or not.
        times: int64 [N], when their frames are shown, as far as the packets tell. They differ from
            ``packets.pts`` where the clock starts over: what follows is put behind what came before.
        counted: the packets do not tell: the n-th frame that comes out has the n-th smallest time.
        sizes, positions: int64 [N], bytes and place in the file of every packet (-1: not known).
        clock: the timeline.
        end_seconds: where the last frame ends.
        packed: a packet may hold several pictures (packed B-frames).
        unsafe: why nothing may be left out when decoding; or None.
        keys_proven: whether key packets of this codec are known to decode alone.
        skippable: whether unwanted pictures that none refers to may be skipped.
        stop_early: whether a picture ends with its packet (not so with two fields in two packets).
        near: how many packets ahead are read rather than sought.
        crop: what the container leaves out at the sides of each picture.
        cut: whether some of the video is not on the timeline: the file lacks its end, could not be
            read to its end, or packets with impossible time stamps are left out.
        note: what the caller should know of the file; or None.
    """

    path: str
    stream: int
    codec: str
    packets: Packets
    flagged: BoolArray
    times: IntArray
    counted: bool
    sizes: IntArray
    positions: IntArray
    clock: Clock
    end_seconds: float
    packed: bool
    unsafe: str | None
    keys_proven: bool
    skippable: bool
    stop_early: bool
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
            del errors[:-1]  # Only the last one is told.
            if not len(self.sizes) % CHECK_EVERY and self.file_bytes is not None:
                self.read_bytes += sum(self.sizes[-CHECK_EVERY:])
                _check_repeats(self.read_bytes, self.file_bytes)
        if errors:
            self.read_error = errors[-1]

    def ends_before_padding(self, path: str | Path) -> bool:
        """Whether nothing but one repeated byte follows the last packet, as in recordings that reserved their file."""
        end = max(
            (place + size for place, size in zip(self.positions, self.sizes, strict=True) if place >= 0), default=-1
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
    counted = keys.packed or bool((pts == NO_PTS).all()) or _in_order_of_decoding(container, stream, pts)
    # Where pictures are packed, the parser's guess at each packet's time is a better one than the order of bytes.
    stamps = pts if keys.packed else dts
    clock, timeline = _timeline(container, stream, header, pts, stamps, shown, counted=counted)
    shown &= ~timeline.wild
    packets = Packets(pts, shown, np.frombuffer(table.alone, np.bool_), np.frombuffer(table.entry, np.bool_))
    notes = [f"read error: {table.read_error}"] if table.read_error else []
    notes += timeline.notes
    valid = shown & (timeline.times != NO_PTS)
    durations = np.frombuffer(table.durations, np.int64)
    others_end = cache(partial(other_streams_end, path, stream.index))
    end, end_note, stated = _end_seconds(timeline.times, durations, valid, clock, stream, timeline.stated, others_end)
    notes += end_note
    why_cut = _why_cut(path, header, end, stated, others_end)
    if why_cut is not None:
        notes.append(why_cut)
    sizes, positions = np.frombuffer(table.sizes, np.int64), np.frombuffer(table.positions, np.int64)
    begin = float(clock.seconds(int(timeline.times[valid].min()))) if valid.any() else 0.0
    span = (begin + float(clock.zero), end + float(clock.zero))
    unread = find_unread(path, container, stream, span=span, positions=positions, sizes=sizes)
    notes += unread.notes
    return Movie(
        path=path,
        stream=stream.index,
        codec=keys.codec,
        packets=packets,
        flagged=np.frombuffer(table.flagged, np.bool_),
        times=timeline.times,
        counted=counted,
        sizes=sizes,
        positions=positions,
        clock=clock,
        end_seconds=end,
        packed=keys.packed,
        unsafe=_why_unsafe(packets, table, counted, timeline.jumps),
        keys_proven=keys.proven,
        skippable=keys.codec in NONREF_SAFE and keys.whole_pictures and keys.single_layer,
        stop_early=keys.whole_pictures,
        near=NEAR_PACKETS_MPEG if container.format.name.startswith("mpeg") else NEAR_PACKETS,
        crop=container_crop(path, container, stream),
        cut=why_cut is not None or table.read_error is not None or bool(timeline.wild.any()) or unread.partial,
        note="; ".join(notes) or None,
    )


class _Timeline(NamedTuple):
    """Times that can be believed, which cannot (``wild``), and the container's length if it can be."""

    times: IntArray
    wild: Any
    stated: float | None
    jumps: tuple[int, ...]
    notes: list[str]


def _timeline(
    container: InputContainer,
    stream: VideoStream,
    header: Header,
    pts: IntArray,
    dts: IntArray,
    shown: Any,
    *,
    counted: bool,
) -> tuple[Clock, _Timeline]:
    time_base = stream.time_base or Fraction(1, 1_000_000)
    times = _counted_times(dts, stream, time_base) if counted else pts
    clock = Clock(time_base, _zero(header, times, time_base))
    gap = MPEG_HALF_TURN if container.format.name.startswith("mpeg") else None
    find_jumps = None if counted else partial(clock_jumps, dts, ticks_per_second=float(1 / time_base), longest_gap=gap)
    timeline = _straighten(times, shown, clock, header.end_seconds(), find_jumps)
    if timeline.jumps:
        clock = Clock(time_base, _zero(header, timeline.times, time_base))
    return clock, timeline


def _straighten(
    times: IntArray, shown: Any, clock: Clock, stated: float | None, find_jumps: Callable[..., Jumps] | None
) -> _Timeline:
    """Judge the times of the shown packets; ``find_jumps`` tells where the clock starts over among usable ones."""
    notes = []
    known = shown & (times != NO_PTS)  # What an edit list cuts off may well lie far before the beginning.
    seconds = clock.seconds(np.where(times != NO_PTS, times, 0))
    wild, believed = outliers(seconds, known, stated)
    if not believed:
        notes.append(f"the container states {stated:.2f} s, but its packets go on after that; they are believed")
        stated = None
    starts: tuple[int, ...] = ()
    if find_jumps is not None:
        starts, apart = find_jumps(usable=known & ~wild)
        wild |= apart
    if starts:
        stated = None  # It is one clock's; there are several.
        times = put_behind(times, shown & ~wild, starts)
        at = times[: starts[0]][(known & ~wild)[: starts[0]]]
        where = f"at {float(clock.seconds(int(at.max()))):.2f} s" if len(at) else "at the start"
        often = f" and {plural(len(starts) - 1, 'time')} more" if len(starts) > 1 else ""
        notes.append(f"the clock jumps back {where}{often}; what follows is put behind it")
    # Whatever still lies before the beginning can be no sample, be it much or little.
    early = known & (clock.seconds(np.where(times != NO_PTS, times, 0)) < -OUTLIER_SECONDS)
    if not early[known].all():
        wild |= early
    if wild.any():
        notes.append(f"{plural(int(wild.sum()), 'packet')} with a time stamp outside of the video left out")
    return _Timeline(times, wild, stated, starts, notes)


def _in_order_of_decoding(container: InputContainer, stream: VideoStream, pts: IntArray) -> bool:
    """Whether the time stamps count packets in order of decoding though the frames are shown in another.

    AVI stores no time stamps. FFmpeg counts packets, which is wrong where the codec reorders.
    """
    context = stream.codec_context
    assert context is not None
    return container.format.name == "avi" and context.reorder_depth > 0 and bool((np.diff(pts) > 0).all())


def _counted_times(stamps: IntArray, stream: VideoStream, time_base: Fraction) -> IntArray:
    """One time per frame for a stream whose packets do not tell them: of all packets, or by the frame rate."""
    if (stamps != NO_PTS).all() and len(np.unique(stamps)) == len(stamps):
        return np.sort(stamps)
    rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
    return np.fromiter((int(n / rate / time_base) for n in range(len(stamps))), dtype=np.int64, count=len(stamps))


def _why_unsafe(packets: Packets, table: _Table, counted: bool, jumps: tuple[int, ...]) -> str | None:
    if jumps:
        return "the clock jumps back"
    if table.keys.packed:
        return "packets with several pictures each (packed B-frames)"
    if table.new_headers:
        return "the header changes on the way"
    if counted:
        return "packets without time stamps of their own"
    return why_unsafe(packets)


def _zero(header: Header, times: IntArray, time_base: Fraction) -> Fraction:
    """When the timeline begins, on the clock of the stream.

    That is the container's start. FFmpeg gives it in microseconds; where it is the start of the
    video stream itself, the stream's exact value is taken.
    """
    known = times[times != NO_PTS]
    first = Fraction(int(known.min())) * time_base if len(known) else Fraction(0)
    if header.start is None:
        return first
    for exact in (first, header.stream_start or Fraction(0)):
        if abs(exact - header.start) <= Fraction(1, 1_000_000):
            return exact
    return header.start


def _end_seconds(
    times: IntArray,
    durations: IntArray,
    valid: Any,
    clock: Clock,
    stream: VideoStream,
    stated: float | None,
    others_end: Callable[[], float | None],
) -> tuple[float, list[str], float | None]:
    """When the last frame ends, what is to be said of that, and the stated end if it can still be believed.

    It ends by its packet's duration, else by the usual distance.

    A duration far above the usual is believed only where the container's length does not speak against it. One
    longer than a minute and than all that comes before is believed only where another stream lasts as long.
    """
    if not valid.any():
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        return float(len(times) / rate), [], stated
    latest = int(times[valid].max())
    length = int(durations[np.flatnonzero(valid & (times == latest))[-1]])
    step = usual_step(times[valid])
    usual, claimed = (float(clock.seconds(latest + ticks)) for ticks in (step, max(length, 0)))
    if length <= 0:
        return usual, [], stated
    if length <= LONG_FRAME_STEPS * step or not (times[valid] < latest).any():
        return claimed, [], stated
    if stated is not None and stated < claimed - CUT_SECONDS:
        return max(stated, usual), [], stated
    held = claimed - usual
    if held > max(LONGEST_HOLD_SECONDS, usual):
        lasts = others_end()
        if lasts is None or lasts < claimed - CUT_SECONDS:
            note = (
                f"the last frame is said to be shown for {held:.0f} s more than the others; nothing else bears that out"
            )
            return usual, [f"{note}; the video is taken to end at {usual:.2f} s"], None
    return claimed, [f"the last frame is said to be shown for {held:.0f} s more than the others"], stated


def _why_cut(
    path: str, header: Header, end: float, stated: float | None, others_end: Callable[[], float | None]
) -> str | None:
    """What shows that the file lacks its end, with how much is missing; None if nothing does.

    If only the container's length is known, it may be that of another stream (sound, subtitles, data).
    """
    lacking = bytes_missing(path, header)
    short = stated is not None and stated > 0 and end < stated - CUT_SECONDS
    if not lacking:
        if not short:
            return None
        lasts = None if header.stream_states_length else others_end()
        if stated is not None and lasts is not None and lasts >= stated - CUT_SECONDS:
            return None
    states = f"the container states {stated:.2f} s, " if short else ""
    lacks = f"; the file lacks its last {plural(lacking, 'byte')}" if lacking else ""
    return f"cut: {states}its video packets end at {end:.2f} s{lacks}"

"""One pass over a video file's packets, without decoding: what they say of themselves, and the timeline."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.errors import VideoOpenError
from hybrid.frames.bitstream import NONREF_SAFE, KeyPackets
from hybrid.frames.container import VideoPacket, open_container, open_stream, packets_of
from hybrid.frames.plan import NO_PTS, Clock, Packets, why_unsafe
from hybrid.frames.timestamps import OUTLIER_SECONDS, Jumps, clock_jumps, outliers, put_behind, usual_step
from hybrid.frames.unread import find_unread
from hybrid.values import IntArray
from hybrid.words import counted

__all__ = ["Movie", "scan"]

NEAR_PACKETS = 48
"""Going on this many packets is cheaper than a seek."""
NEAR_PACKETS_MPEG = 4000
"""The same where there is no index and a seek is a search through the file."""
MPEG_HALF_TURN = 2**32
"""Half of what the 33 bits of MPEG's clock can count (13 hours). FFmpeg takes a time stamp that goes
back by more than a minute for a clock that has run over, and adds the whole."""
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
        times: int64 [N], when their frames are shown, as far as the packets tell. They differ from
            ``packets.pts`` where the clock starts over: what follows is put behind what came before.
        counted: the packets do not tell: the n-th frame that comes out has the n-th smallest time.
        sizes, positions: int64 [N], bytes and place in the file of every packet (-1: not known).
        clock: the timeline.
        end_seconds: where the last frame ends.
        unsafe: why nothing may be left out when decoding; or None.
        skippable: whether unwanted pictures that none refers to may be skipped.
        stop_early: whether a picture ends with its packet (not so with two fields in two packets).
        near: how many packets ahead are read rather than sought.
        cut: whether some of the video is not on the timeline: the file lacks its end, could not be
            read to its end, or packets with impossible time stamps are left out.
        note: what the caller should know of the file; or None.
    """

    path: str
    stream: int
    codec: str
    packets: Packets
    times: IntArray
    counted: bool
    sizes: IntArray
    positions: IntArray
    clock: Clock
    end_seconds: float
    unsafe: str | None
    skippable: bool
    stop_early: bool
    near: int
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
        table = _Table(keys)
        table.read_all(container, stream)
        if not table.pts:
            raise VideoOpenError(f"{path}: its video stream holds no data; the file is cut or damaged")
        return _movie(str(path), container, stream, codec, keys, table)


class _Table:
    """Collects the packets of one pass, in columns: 43 bytes a packet."""

    def __init__(self, keys: KeyPackets) -> None:
        self.keys = keys
        self.pts, self.dts, self.durations, self.sizes, self.positions = (array("q") for _ in range(5))
        self.shown, self.alone, self.entry = bytearray(), bytearray(), bytearray()
        self.new_headers = False
        self.read_error: str | None = None

    def read_all(self, container: InputContainer, stream: VideoStream) -> None:
        errors: list[str] = []
        for packet in packets_of(container, stream, errors):
            alone = entry = False
            if packet.is_keyframe:
                alone, entry = self._judge(packet)
            self.pts.append(NO_PTS if packet.pts is None else packet.pts)
            self.dts.append(NO_PTS if packet.dts is None else packet.dts)
            self.durations.append(packet.duration or 0)
            self.sizes.append(packet.size)
            self.positions.append(-1 if packet.pos is None else packet.pos)
            self.shown.append(not packet.is_discard)
            self.alone.append(alone)
            self.entry.append(entry)
            del errors[:-1]  # Only the last one is told.
        if errors:
            self.read_error = errors[-1]

    def _judge(self, packet: VideoPacket) -> tuple[bool, bool]:
        if self.pts and packet.has_sidedata("new_extradata"):
            self.new_headers = True
        verdict = self.keys.judge(bytes(packet) if self.keys.reads_bytes else b"")
        return verdict.alone, verdict.entry


def _movie(
    path: str, container: InputContainer, stream: VideoStream, codec: str, keys: KeyPackets, table: _Table
) -> Movie:
    # Views, not copies: the table is not touched any more.
    pts, dts = np.frombuffer(table.pts, np.int64), np.frombuffer(table.dts, np.int64)
    shown = np.frombuffer(table.shown, np.bool_)
    counted = bool((pts == NO_PTS).all()) or _in_order_of_decoding(container, stream, pts)
    clock, timeline = _timeline(container, stream, pts, dts, shown, counted=counted)
    shown &= ~timeline.wild
    packets = Packets(pts, shown, np.frombuffer(table.alone, np.bool_), np.frombuffer(table.entry, np.bool_))
    notes = [f"read error: {table.read_error}"] if table.read_error else []
    notes += timeline.notes
    valid = shown & (timeline.times != NO_PTS)
    durations = np.frombuffer(table.durations, np.int64)
    end, end_note = _end_seconds(timeline.times, durations, valid, clock, stream, timeline.stated)
    notes += end_note
    cut = _is_cut(path, stream, end, timeline.stated)
    if cut:
        notes.append(f"cut: the container states {timeline.stated:.2f} s, its video packets end at {end:.2f} s")
    stamps = pts[shown & (pts != NO_PTS)]
    unread = find_unread(
        path,
        container,
        stream,
        positions=np.frombuffer(table.positions, np.int64),
        sizes=np.frombuffer(table.sizes, np.int64),
        span=(int(stamps.min()), int(stamps.max())) if len(stamps) else (0, 0),
    )
    notes += unread.notes
    return Movie(
        path=path,
        stream=stream.index,
        codec=codec,
        packets=packets,
        times=timeline.times,
        counted=counted,
        sizes=np.frombuffer(table.sizes, np.int64),
        positions=np.frombuffer(table.positions, np.int64),
        clock=clock,
        end_seconds=end,
        unsafe=_why_unsafe(packets, table, counted, timeline.jumps),
        skippable=codec in NONREF_SAFE and keys.whole_pictures and keys.single_layer,
        stop_early=keys.whole_pictures,
        near=NEAR_PACKETS_MPEG if container.format.name.startswith("mpeg") else NEAR_PACKETS,
        cut=cut or table.read_error is not None or bool(timeline.wild.any()) or unread.partial,
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
    container: InputContainer, stream: VideoStream, pts: IntArray, dts: IntArray, shown: Any, *, counted: bool
) -> tuple[Clock, _Timeline]:
    time_base = stream.time_base or Fraction(1, 1_000_000)
    times = _counted_times(dts, stream, time_base) if counted else pts
    clock = Clock(time_base, _zero(container, stream, times, time_base))
    gap = MPEG_HALF_TURN if container.format.name.startswith("mpeg") else None
    find_jumps = None if counted else partial(clock_jumps, dts, ticks_per_second=float(1 / time_base), longest_gap=gap)
    timeline = _straighten(times, shown, clock, _stated_end(container, stream), find_jumps)
    if timeline.jumps:
        clock = Clock(time_base, _zero(container, stream, timeline.times, time_base))
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
        often = f" and {counted(len(starts) - 1, 'time')} more" if len(starts) > 1 else ""
        notes.append(f"the clock jumps back {where}{often}; what follows is put behind it")
    # Whatever still lies before the beginning can be no sample, be it much or little.
    early = known & (clock.seconds(np.where(times != NO_PTS, times, 0)) < -OUTLIER_SECONDS)
    if not early[known].all():
        wild |= early
    if wild.any():
        notes.append(f"{counted(int(wild.sum()), 'packet')} with a time stamp outside of the video left out")
    return _Timeline(times, wild, stated, starts, notes)


def _in_order_of_decoding(container: InputContainer, stream: VideoStream, pts: IntArray) -> bool:
    """Whether the time stamps count packets in order of decoding though the frames are shown in another.

    AVI stores no time stamps. FFmpeg counts packets, which is wrong where the codec reorders.
    """
    context = stream.codec_context
    assert context is not None
    return container.format.name == "avi" and context.reorder_depth > 0 and bool((np.diff(pts) > 0).all())


def _counted_times(dts: IntArray, stream: VideoStream, time_base: Fraction) -> IntArray:
    """One time per frame for a stream that states none: of the packets, or by the frame rate."""
    if (dts != NO_PTS).all() and len(np.unique(dts)) == len(dts):
        return np.sort(dts)
    rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
    return np.fromiter((int(n / rate / time_base) for n in range(len(dts))), dtype=np.int64, count=len(dts))


def _why_unsafe(packets: Packets, table: _Table, counted: bool, jumps: tuple[int, ...]) -> str | None:
    if jumps:
        return "the clock jumps back"
    if table.new_headers:
        return "the header changes on the way"
    if counted:
        return "packets without time stamps of their own"
    return why_unsafe(packets)


def _zero(container: InputContainer, stream: VideoStream, times: IntArray, time_base: Fraction) -> Fraction:
    """When the timeline begins, on the clock of the stream.

    That is the container's start. FFmpeg gives it in microseconds; where it is the start of the
    video stream itself, the stream's exact value is taken.
    """
    known = times[times != NO_PTS]
    first = Fraction(int(known.min())) * time_base if len(known) else Fraction(0)
    stated = cast("int | None", container.start_time)  # PyAV's stub leaves the None out.
    if stated is None:
        return first
    start = Fraction(stated, 1_000_000)
    for exact in (first, Fraction(stream.start_time or 0) * time_base):
        if abs(exact - start) <= Fraction(1, 1_000_000):
            return exact
    return start


def _stated_end(container: InputContainer, stream: VideoStream) -> float | None:
    """The end of the video on the timeline, as the container states it."""
    if stream.duration and stream.time_base:
        start = Fraction(stream.start_time or 0) * stream.time_base
        return float(start + stream.duration * stream.time_base) - (container.start_time or 0) / 1e6
    if not container.duration:
        return None
    # In Matroska this is a time on the clock of the file, which need not begin at 0.
    begin = max(0, container.start_time or 0) if container.format.name.startswith("matroska") else 0
    return (container.duration - begin) / 1e6


def _end_seconds(
    times: IntArray, durations: IntArray, valid: Any, clock: Clock, stream: VideoStream, stated: float | None
) -> tuple[float, list[str]]:
    """When the last frame ends, with what is to be said of it: its packet's duration, else the usual distance.

    A duration far above the usual is believed only where the container's length does not speak against it.
    """
    if not valid.any():
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        return float(len(times) / rate), []
    latest = int(times[valid].max())
    length = int(durations[np.flatnonzero(valid & (times == latest))[-1]])
    step = usual_step(times[valid])
    usual, claimed = (float(clock.seconds(latest + ticks)) for ticks in (step, max(length, 0)))
    if length <= 0:
        return usual, []
    if length <= LONG_FRAME_STEPS * step or not (times[valid] < latest).any():
        return claimed, []
    if stated is not None and stated < claimed - CUT_SECONDS:
        return max(stated, usual), []
    return claimed, [f"the last frame is said to be shown for {claimed - usual:.0f} s more than the others"]


def _is_cut(path: str, stream: VideoStream, end: float, stated: float | None) -> bool:
    """Whether the file lacks its end. If only the container's length is known, other streams may be longer."""
    if stated is None or end >= stated - CUT_SECONDS:
        return False
    if stream.duration:
        return True
    latest = end
    with open_container(path) as container:
        start = (container.start_time or 0) / 1e6
        others = list(container.streams.audio)
        if not others:
            return True
        try:
            for packet in container.demux(others):
                if packet.pts is not None and packet.time_base:
                    latest = max(latest, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start)
        except av.error.FFmpegError:
            return True
    return latest < stated - CUT_SECONDS

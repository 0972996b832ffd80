"""One pass over a video file's packets, without decoding: what they say of themselves, and the timeline."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.errors import VideoOpenError
from hybrid.frames.bitstream import NONREF_SAFE, KeyPackets
from hybrid.frames.container import VideoPacket, open_container, open_stream, packets_of
from hybrid.frames.plan import NO_PTS, Clock, Packets, why_unsafe
from hybrid.values import FloatArray, IntArray

__all__ = ["Movie", "scan"]

NEAR_PACKETS = 48
"""Going on this many packets is cheaper than a seek."""
NEAR_PACKETS_MPEG = 4000
"""The same where there is no index and a seek is a search through the file."""
OUTLIER_SECONDS = 60.0
"""A time stamp this far outside of what the container says is damaged."""
CUT_SECONDS = 0.5
"""Packets that end this much before the length that the container states mean a cut file."""


@dataclass(frozen=True, slots=True, eq=False)
class Movie:
    """What one pass over a file's packets found.

    Attributes:
        path: the file.
        stream: index of the chosen video stream.
        codec: its codec's name.
        packets: for :mod:`hybrid.frames.plan`.
        times: int64 [N], when their frames are shown, as far as the packets tell.
        counted: the packets do not tell: the n-th frame that comes out has the n-th smallest time.
        sizes, positions: int64 [N], bytes and place in the file of every packet (-1: not known).
        clock: the timeline.
        end_seconds: where the last frame ends.
        unsafe: why nothing may be left out when decoding; or None.
        skippable: whether unwanted pictures that none refers to may be skipped.
        stop_early: whether a picture ends with its packet (not so with two fields in two packets).
        near: how many packets ahead are read rather than sought.
        cut: whether the file lacks its end, or could not be read to its end.
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
        if not table.rows:
            raise VideoOpenError(f"{path}: its video stream holds no data; the file is cut or damaged")
        return _movie(str(path), container, stream, codec, keys, table)


class _Table:
    """Collects the packets of one pass."""

    def __init__(self, keys: KeyPackets) -> None:
        self.keys = keys
        self.rows: list[tuple[int, int, int, int, int, bool, bool, bool]] = []
        self.new_headers = False
        self.read_error: str | None = None

    def read_all(self, container: InputContainer, stream: VideoStream) -> None:
        errors: list[str] = []
        for packet in packets_of(container, stream, errors):
            dts = packet.dts
            pts = packet.pts
            alone = entry = False
            if packet.is_keyframe:
                alone, entry = self._judge(packet)
            self.rows.append(
                (
                    NO_PTS if pts is None else pts,
                    NO_PTS if dts is None else dts,
                    packet.duration or 0,
                    packet.size,
                    -1 if packet.pos is None else packet.pos,
                    not packet.is_discard,
                    alone,
                    entry,
                )
            )
        if errors:
            self.read_error = errors[-1]

    def _judge(self, packet: VideoPacket) -> tuple[bool, bool]:
        if self.rows and packet.has_sidedata("new_extradata"):
            self.new_headers = True
        verdict = self.keys.judge(bytes(packet) if self.keys.reads_bytes else b"")
        return verdict.alone, verdict.entry


def _movie(
    path: str, container: InputContainer, stream: VideoStream, codec: str, keys: KeyPackets, table: _Table
) -> Movie:
    columns = list(zip(*table.rows, strict=True))
    pts, dts, durations, sizes, positions = (np.array(column, dtype=np.int64) for column in columns[:5])
    shown, key, entry = (np.array(column, dtype=bool) for column in columns[5:])
    time_base = stream.time_base or Fraction(1, 1_000_000)
    notes = [f"read error: {table.read_error}"] if table.read_error else []
    counted = bool((pts == NO_PTS).all()) or _in_order_of_decoding(container, stream, pts)
    times = _counted_times(dts, stream, time_base) if counted else pts
    clock = Clock(time_base, _zero(container, stream, times, time_base))
    stated = _stated_end(container, stream)
    outliers = _outliers(times, clock, stated)
    if outliers.any():
        shown &= ~outliers
        notes.append(f"{int(outliers.sum())} packets with a time stamp outside of the video are left out")
    packets = Packets(pts, shown, key, entry)
    end = _end_seconds(times, durations, shown & (times != NO_PTS), clock, stream)
    cut = stated is not None and end < stated - CUT_SECONDS and _is_cut(path, stream, end, stated)
    if cut and stated is not None:
        notes.append(f"cut: the container states {stated:.2f} s, its video packets end at {end:.2f} s")
    return Movie(
        path=path,
        stream=stream.index,
        codec=codec,
        packets=packets,
        times=times,
        counted=counted,
        sizes=sizes,
        positions=positions,
        clock=clock,
        end_seconds=end,
        unsafe=_why_unsafe(packets, table, counted),
        skippable=codec in NONREF_SAFE and keys.whole_pictures and keys.single_layer,
        stop_early=keys.whole_pictures,
        near=NEAR_PACKETS_MPEG if container.format.name.startswith("mpeg") else NEAR_PACKETS,
        cut=cut or table.read_error is not None,
        note="; ".join(notes) or None,
    )


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
    return np.array([int(n / rate / time_base) for n in range(len(dts))], dtype=np.int64)


def _why_unsafe(packets: Packets, table: _Table, counted: bool) -> str | None:
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


def _outliers(times: IntArray, clock: Clock, stated: float | None) -> Any:
    known = times != NO_PTS
    seconds = clock.seconds(np.where(known, times, 0))
    wild = seconds < -OUTLIER_SECONDS
    if stated is not None:
        wild |= seconds > stated + OUTLIER_SECONDS
    wild &= known
    return wild if not wild.all() else np.zeros(len(times), dtype=bool)


def _end_seconds(times: IntArray, durations: IntArray, valid: Any, clock: Clock, stream: VideoStream) -> float:
    """When the last frame ends: its packet's duration, else the usual distance of frames."""
    if not valid.any():
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        return float(len(times) / rate)
    order = np.sort(times[valid])
    last = int(np.flatnonzero(valid & (times == order[-1]))[-1])
    length = int(durations[last])
    if length <= 0:
        steps = np.diff(order)
        length = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    seconds: FloatArray = clock.seconds(int(order[-1]) + length)
    return float(seconds)


def _is_cut(path: str, stream: VideoStream, end: float, stated: float) -> bool:
    """Whether the file lacks its end. If only the container's length is known, other streams may be longer."""
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

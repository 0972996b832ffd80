"""Packets to the frames that are shown: of one stretch of a file, or of a stream that must be decoded from its start.

A stretch is first decoded with all that the plan allows to be left out. If the decoder refuses a packet, calls a frame
damaged, or a requested frame does not come out in its turn, what is still lacking is decoded again with nothing left
out, from an entry further back. That gives what a full decode of the file gives, concealment of damage included, unless
damage reaches across more than four entries: such a frame may be patched up from other pictures than in a full decode.

A stream is decoded from its start with nothing left out where its packets do not tell which frame is shown when: no
time stamps (MPEG-4 in AVI), several packets with one time, a clock that jumps, headers that change. The frames
themselves, in the order in which the decoder returns them, tell what is shown.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Container, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import av
import av.error
import numpy as np

from hybrid.frames.decoding.pictures import RgbConverter
from hybrid.frames.interface import Sample
from hybrid.frames.packets.plan import MAX_REORDER, NO_PTS, SLACK_SECONDS, Job, grid_size
from hybrid.frames.packets.scan import Movie, PacketReader
from hybrid.frames.packets.timeline import usual_step
from hybrid.values import ByteArray, IntArray, Sampling

__all__ = ["Shown", "Tally", "decode_job", "frames_of", "sequential_samples"]

Skip: TypeAlias = Literal["DEFAULT", "NONREF"]

CLOCK_STEPS_BACK = 4
"""A time stamp that goes back by more usual distances than this belongs to another clock, or is damaged."""
ENTRIES_BACK = 4
"""A careful decoding starts one entry before a damaged stretch; so many, if that is damaged as well."""


class Shown(NamedTuple):
    """What became of one requested packet: the time and picture of its frame, or why there is none."""

    packet: int
    pts: int
    rgb: ByteArray | None
    reason: str | None = None


@dataclass(slots=True)
class Tally:
    """Counts of what one thread's decoder did.

    Attributes:
        frames, packets: how many came out, and went in.
        damaged: packets that the decoder refused.
        redone: stretches that were decoded again in full.
        concealed: requested frames that the decoder patched up.
        backward: frames left out because their time goes back far.
        reordered: frames whose time goes back a little, which keep the decoder's order.
    """

    frames: int = 0
    packets: int = 0
    damaged: set[int] = field(default_factory=set)
    redone: int = 0
    concealed: int = 0
    backward: int = 0
    reordered: int = 0

    def add(self, other: Tally) -> None:
        """Add another thread's counts."""
        self.damaged |= other.damaged
        for name in ("frames", "packets", "redone", "concealed", "backward", "reordered"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def frames_of(
    reader: PacketReader, start: int, last: int, tally: Tally, *, keep: Container[int] | None = None
) -> Generator[av.VideoFrame | int]:
    """Decode packets ``start`` .. ``last`` afresh, and give all frames, the delayed ones at the end too.

    Args:
        reader: where the packets and the decoder come from.
        start, last: packets to decode, inclusive.
        tally: where to count.
        keep: packets whose pictures are requested; of the others, those that no picture refers to are
            skipped. None: skip nothing.

    Yields:
        Frames in order of presentation; the number of a packet where the decoder refused it.
    """
    skip: Skip = "DEFAULT"
    try:
        for index, packet in reader.packets(start, last):
            wish: Skip = "DEFAULT" if keep is None or index in keep else "NONREF"
            if wish != skip:
                reader.context.skip_frame = skip = wish
            tally.packets += 1
            try:
                frames = reader.context.decode(packet)
            except av.error.FFmpegError:
                tally.damaged.add(index)
                yield index
                continue
            tally.frames += len(frames)
            yield from frames
        try:
            frames = reader.context.decode(None)
        except av.error.FFmpegError:
            return
        tally.frames += len(frames)
        yield from frames
    finally:
        reader.context.flush_buffers()
        reader.context.skip_frame = "DEFAULT"


def decode_job(
    reader: PacketReader, movie: Movie, job: Job, starts: IntArray, tally: Tally, to_rgb: RgbConverter
) -> Iterator[Shown]:
    """The frames of a job, in its order.

    Args:
        reader: used by this thread only.
        movie: what was scanned.
        job: the stretch and its requested packets.
        starts: where decoding may start (:func:`hybrid.frames.packets.plan.entries`).
        tally: where to count.
        to_rgb: used by this thread only.
    """
    given = 0
    for shown in _decode_sparingly(reader, movie, job, tally, to_rgb):
        given += 1
        yield shown
    if given < len(job.requested):
        tally.redone += 1
        yield from _decode_carefully(
            reader, movie, job._replace(requested=job.requested[given:]), starts, tally, to_rgb
        )


def _decode_sparingly(
    reader: PacketReader, movie: Movie, job: Job, tally: Tally, to_rgb: RgbConverter
) -> Iterator[Shown]:
    """Leave out all that the plan allows, and stop at the first sign of damage.

    A picture's references are decoded before it, but may be shown after it. So a frame is given
    only once all that was decoded before it has come out undamaged.
    """
    pts = movie.packets.pts
    requested = {int(pts[packet]): packet for packet in job.requested}
    shown = movie.packets.shown[job.start : job.last + 1]
    latest_before = np.maximum.accumulate(np.where(shown, pts[job.start : job.last + 1], NO_PTS))
    first_pts = int(pts[job.start])
    keep = frozenset(job.requested) if movie.keys.skippable else None
    waiting: deque[tuple[int, av.VideoFrame]] = deque()
    count = 0
    with closing(frames_of(reader, job.start, job.last, tally, keep=keep)) as frames:
        for frame in frames:
            if isinstance(frame, int):
                return
            if frame.pts is None or (frame.pts < first_pts and frame.pts not in requested):
                # Leading pictures that belong to the stretch before; they lack references here.
                continue
            if frame.is_corrupt:
                return
            packet = requested.get(frame.pts)
            if packet is not None:
                if packet != job.requested[count]:
                    return
                waiting.append((packet, frame))
                count += 1
            while waiting and latest_before[waiting[0][0] - job.start] <= frame.pts:
                packet, decoded = waiting.popleft()
                yield Shown(packet, int(pts[packet]), to_rgb(decoded))
            if count == len(job.requested) and not waiting:
                return
    for packet, decoded in waiting:
        yield Shown(packet, int(pts[packet]), to_rgb(decoded))


def _decode_carefully(
    reader: PacketReader, movie: Movie, job: Job, starts: IntArray, tally: Tally, to_rgb: RgbConverter
) -> Iterator[Shown]:
    number = int(np.searchsorted(starts, job.start, side="right")) - 1
    begin = int(starts[max(0, number - 1)])
    if begin > 0 and not _is_clean(reader, begin, job.start, tally):
        begin = int(starts[max(0, number - ENTRIES_BACK)])
    yield from _decode_all(reader, movie, job, begin, tally, to_rgb)


def _is_clean(reader: PacketReader, begin: int, end: int, tally: Tally) -> bool:
    """Whether the packets from ``begin`` up to ``end`` decode without a complaint."""
    with closing(frames_of(reader, begin, end - 1, tally)) as frames:
        return not any(isinstance(frame, int) or frame.is_corrupt for frame in frames)


def _decode_all(
    reader: PacketReader, movie: Movie, job: Job, begin: int, tally: Tally, to_rgb: RgbConverter
) -> Iterator[Shown]:
    """Decode from ``begin`` on with nothing left out, and give what is shown at the requested packets' times.

    A packet without a frame of its own (the second field of a picture, say) shows the frame before
    it; but where the decoder complained, its frame counts as lost.
    """
    pts = movie.packets.pts
    left = list(reversed(job.requested))
    complaints: set[int] = set()
    held: av.VideoFrame | None = None

    def without_frame(packet: int) -> Shown:
        time = int(pts[packet])
        if packet in complaints:
            return Shown(packet, time, None, "its data is damaged: the decoder refused it")
        if complaints or held is None or held.pts is None or held.pts > time:
            return Shown(
                packet, time, None, "no frame came out of the decoder: the data before it is damaged or missing"
            )
        return Shown(packet, held.pts, to_rgb(held))

    with closing(frames_of(reader, begin, job.last, tally)) as frames:
        for frame in frames:
            if isinstance(frame, int):
                complaints.add(frame)
                continue
            if frame.pts is None:
                continue
            while left and pts[left[-1]] < frame.pts:
                yield without_frame(left.pop())
            if left and pts[left[-1]] == frame.pts:
                tally.concealed += frame.is_corrupt
                yield Shown(left.pop(), frame.pts, to_rgb(frame))
            if held is None or held.pts is None or held.pts < frame.pts:
                held = frame
    while left:
        yield without_frame(left.pop())


class _Timed(NamedTuple):
    frame: av.VideoFrame
    time: int
    number: int


def sequential_samples(
    reader: PacketReader, movie: Movie, sampling: Sampling, ordinals: list[int] | None, tally: Tally
) -> Iterator[Sample]:
    """Decode everything and give the samples in order: all of the grid, or those in ``ordinals``.

    A sample for which the file has no frame comes with the reason instead of a picture; so does
    one whose frame was lost because the decoder refused a packet.
    """
    lost: list[int] = []
    frames = _timed_frames(reader, movie, tally, lost)
    if sampling.policy == "keyframes":
        yield from _keyframes(frames, movie, sampling.rate, ordinals)
    else:
        yield from _exact(frames, movie, sampling.rate, ordinals, lost)


def _timed_frames(reader: PacketReader, movie: Movie, tally: Tally, lost: list[int]) -> Iterator[_Timed]:
    """Frames whose time moves on, with their number. Times of refused packets go to ``lost``, sorted.

    A frame without a time comes the usual distance after the one before it, and so does one whose time goes back
    by a few frames. Where packets have no times of their own, frames are counted; a refused packet
    counts as a frame. A frame that would go back further is left out and counted.
    """
    low, high, step = _time_range(movie)
    previous: int | None = None
    far_back = False
    number = -1
    index = -1
    for frame in frames_of(reader, 0, len(movie.packets) - 1, tally):
        if isinstance(frame, int):
            index += movie.counted
            time = int(movie.times[frame])
            if time != NO_PTS:
                insort(lost, time)
            continue
        number += 1
        index += 1
        tally.concealed += frame.is_corrupt
        if movie.counted:
            time = int(movie.times[min(index, len(movie.times) - 1)])
        elif frame.pts is not None:
            time = _time_of(frame.pts, movie, reader.next_packet - 1)
        else:
            time = low if previous is None else previous + step
        if not low <= time <= high + step:
            continue
        if previous is not None and time < previous:
            far_back = far_back or previous - time > CLOCK_STEPS_BACK * step
            if far_back:
                tally.backward += 1
                continue
            # The decoder puts pictures in order; a stamp that goes back a little is what is wrong.
            tally.reordered += 1
            time = previous + step
        far_back = False
        previous = time
        yield _Timed(frame, time, number)


def _time_of(pts: int, movie: Movie, latest: int) -> int:
    """The time of a frame by the packet that it came from; :data:`NO_PTS` if that is left out.

    That is the last packet with its time stamp among those that the decoder may still hold back,
    up to packet ``latest``; the frame's time stamp alone does not tell where a clock starts over.
    """
    first = max(0, latest + 1 - 2 * MAX_REORDER)
    packets = first + np.flatnonzero(movie.packets.pts[first : latest + 1] == pts)
    if not len(packets):
        return pts
    shown = packets[movie.packets.shown[packets]]
    return int(movie.times[shown[-1]]) if len(shown) else NO_PTS


def _time_range(movie: Movie) -> tuple[int, int, int]:
    times = movie.times[movie.packets.shown & (movie.times != NO_PTS)]
    if not len(times):
        return 0, int(np.iinfo(np.int64).max) // 2, 1
    return int(times.min()), int(times.max()), usual_step(times)


def _exact(
    frames: Iterator[_Timed], movie: Movie, rate: float, ordinals: list[int] | None, lost: list[int]
) -> Iterator[Sample]:
    count = grid_size(movie.end_seconds, rate)
    chosen = [k for k in ordinals if k < count] if ordinals is not None else range(count)
    limits = movie.clock.sample_ticks(rate, count)
    before_next = movie.clock.last_ticks(rate, count)
    picture = _Picture(movie)
    held: _Timed | None = None
    index = 0
    for shown in frames:
        while index < len(chosen) and limits[k := chosen[index]] < shown.time:
            if held is None and before_next[k] >= shown.time:
                # Nothing is shown yet at this sample's time, but before the next one's.
                yield picture.sample(k, shown, [], int(limits[k]))
            else:
                yield picture.sample(k, held, lost, int(limits[k]))
            index += 1
        held = shown
        if index == len(chosen):
            return
    for k in chosen[index:]:
        yield picture.sample(k, held, lost, int(limits[k]))


class _Picture:
    """Turns held frames into samples; a frame that is repeated is converted once."""

    def __init__(self, movie: Movie) -> None:
        self._movie = movie
        self._to_rgb = RgbConverter(movie.crop)
        self._number = -1
        self._rgb: ByteArray | None = None

    def sample(self, ordinal: int, held: _Timed | None, lost: list[int], limit: int) -> Sample:
        if held is None:
            return Sample.missing(ordinal, "no frame is shown yet")
        latest_lost = bisect_right(lost, limit) - 1
        if latest_lost >= 0 and lost[latest_lost] > held.time:
            return Sample.missing(ordinal, "its data is damaged: the decoder refused it")
        if held.number != self._number:
            self._rgb, self._number = self._to_rgb(held.frame), held.number
        return Sample(ordinal, float(self._movie.clock.seconds(held.time)), held.number, self._rgb)


def _keyframes(frames: Iterator[_Timed], movie: Movie, rate: float, ordinals: list[int] | None) -> Iterator[Sample]:
    picture = _Picture(movie)
    # Some decoders do not call any frame a key frame; then the flag of its packet counts.
    flagged = frozenset(movie.packets.pts[movie.flagged & (movie.packets.pts != NO_PTS)].tolist())
    latest = -1
    chosen = None if ordinals is None else frozenset(ordinals)
    final = math.inf if ordinals is None else max(ordinals, default=-1)
    for shown in frames:
        k = int((max(0.0, float(movie.clock.seconds(shown.time))) + SLACK_SECONDS) * rate)
        if k > final:
            return
        if not (shown.frame.key_frame or shown.frame.pts in flagged):
            continue
        if k > latest and (chosen is None or k in chosen):
            yield picture.sample(k, shown, [], 0)
        latest = max(latest, k)

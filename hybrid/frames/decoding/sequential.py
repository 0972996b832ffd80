"""Sampling a stream that must be decoded from its start with nothing left out.

For streams whose packets do not tell which frame is shown when: no time stamps (MPEG-4 in AVI),
several packets with one time, a clock that jumps, headers that change. The frames themselves, in
the order in which the decoder gives them, say what is shown.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from hybrid.frames.decoding.pictures import RgbConverter
from hybrid.frames.decoding.stretch import Tally, frames_of
from hybrid.frames.interface import Sample
from hybrid.frames.packets.plan import MAX_REORDER, NO_PTS, SLACK_SECONDS, grid_size
from hybrid.frames.packets.scan import Movie, PacketReader
from hybrid.frames.packets.timeline import usual_step
from hybrid.values import ByteArray, Sampling

__all__ = ["sequential_samples"]


MOST_STEPS_BACK = 4
"""A time stamp that goes back by more usual distances than this belongs to another clock, or is damaged."""


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
            far_back = far_back or previous - time > MOST_STEPS_BACK * step
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

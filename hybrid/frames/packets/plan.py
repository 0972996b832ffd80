"""Which packets of a video must be decoded, and how, for the requested samples to come out exactly.

Pure functions on arrays: this module knows nothing of files, containers or decoders. From
what a demuxing pass saw (:class:`Packets`) it computes which packet holds the frame of each sample
(:func:`exact_grid`, :func:`keyframe_grid`) and in which independent stretches they are to be
decoded (:func:`plan_jobs`).

The reasoning. A decoder may start at an *entry* (an IDR picture of H.264, say) and then gives every
picture that is shown at or after the entry exactly as if it had run from the start of the file.
So the stretch of time from one entry to the next can be decoded on its own, on any core, and
decoding may stop at the last requested picture of the stretch, in decode order. Pictures that follow
an entry in decode order but are shown before it ("leading" pictures of an open group of pictures)
belong to the stretch before, which therefore reads on across the entry where one of them is requested.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid.errors import VideoOpenError
from hybrid.values import FloatArray, IntArray, MissingFrame, Sampling

__all__ = [
    "NO_PTS",
    "Clock",
    "Grid",
    "Job",
    "Packets",
    "entries",
    "exact_grid",
    "first_of_intervals",
    "grid",
    "grid_size",
    "keyframe_grid",
    "keyframe_jobs",
    "plan_jobs",
    "presentation_order",
    "restrict",
    "unsafe_reason",
]

BoolArray = npt.NDArray[np.bool_]

NO_PTS = int(np.iinfo(np.int64).min)
"""Stands for "this packet has no time stamp"."""

SLACK_SECONDS = 1e-6
"""A frame counts as shown at a time if it begins at most this much later. The clocks of containers
are not finer; without it a start time that was rounded to microseconds would lose a frame."""

MAX_REORDER = 64
"""No codec keeps a picture back for as many others (16 frames, or 32 fields, in H.264 and HEVC)."""

MAX_SAMPLES = 10_000_000
"""No real video has more samples; a timeline that does comes from a damaged time stamp."""


@dataclass(frozen=True, slots=True, eq=False)
class Packets:
    """The video packets of a file in decode order, N of them.

    Attributes:
        pts: int64 [N] presentation time in ticks of the stream's clock, :data:`NO_PTS` if unknown.
        shown: bool [N], whether the packet's picture is shown (not one that an edit list cuts off).
        key: bool [N], whether the picture can be decoded by itself.
        entry: bool [N], whether decoding may start here: every picture shown at or after this one
            comes out as if decoding had begun at the start of the file.
    """

    pts: IntArray
    shown: BoolArray
    key: BoolArray
    entry: BoolArray

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(frozen=True, slots=True)
class Clock:
    """The timeline of a video: how ticks of its video stream become seconds from the start.

    Attributes:
        time_base: seconds per tick.
        zero: time on the stream's clock, in seconds, that is 0 on the timeline.
    """

    time_base: Fraction
    zero: Fraction

    def seconds(self, ticks: IntArray | int) -> FloatArray:
        """Ticks to seconds on the timeline: float64, of the same shape."""
        whole = int(self.zero / self.time_base)
        rest = float(self.zero - whole * self.time_base)
        since = np.asarray(ticks, dtype=np.int64) - whole
        return since * self.time_base.numerator / self.time_base.denominator - rest

    def ticks(self, seconds: FloatArray) -> IntArray:
        """The last tick that counts as shown at each time: int64, of the same shape."""
        zero = float(self.zero / self.time_base)
        return np.floor((seconds + SLACK_SECONDS) / float(self.time_base) + zero).astype(np.int64)

    def sample_ticks(self, rate: float, count: int) -> IntArray:
        """The times of the first samples: int64 [count]."""
        return self.ticks(np.arange(count) / rate)

    def last_ticks(self, rate: float, count: int) -> IntArray:
        """The last tick before the time of the *next* sample, for each of those samples: int64 [count]."""
        return self.ticks(np.arange(1, count + 1) / rate - 2 * SLACK_SECONDS)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Which packet's frame stands for which sample.

    Attributes:
        ordinals: int64 [M], strictly increasing.
        packets: int64 [M], position of the packet in decode order. Times do not decrease along it.
        missing: samples for which there is no frame.
    """

    ordinals: IntArray
    packets: IntArray
    missing: tuple[MissingFrame, ...] = ()


class Job(NamedTuple):
    """A stretch of packets to decode from a fresh decoder.

    Attributes:
        start, last: the first and the last packet to pass to the decoder, both inclusive.
        requested: the packets whose frames are requested, in order of presentation, each once.
    """

    start: int
    last: int
    requested: tuple[int, ...]


def unsafe_reason(packets: Packets) -> str | None:
    """Why a frame of this stream cannot be identified by the time stamp of its packet; None if it can.

    Such a stream has to be decoded from its start, with nothing left out.
    """
    pts = packets.pts[packets.shown]
    if not len(pts):
        return "no packet with a time stamp"
    if (pts == NO_PTS).any():
        return "packets without time stamps"
    order = np.argsort(pts, kind="stable")
    if (np.diff(pts[order]) == 0).any():
        return "several packets with one time stamp"
    # Reordering by the codec moves a picture by a few positions; if by more, the clock went back.
    order -= np.arange(len(pts))
    if np.abs(order, out=order).max() > MAX_REORDER:
        return "time stamps that go back"
    return None


def presentation_order(packets: Packets) -> IntArray:
    """The shown packets sorted by time: int64, positions in decode order."""
    shown = np.flatnonzero(packets.shown)
    return shown[np.argsort(packets.pts[shown], kind="stable")].astype(np.int64)


def grid_size(end_seconds: float, rate: float) -> int:
    """How many samples ``k`` have ``k / rate`` before the end; at least one.

    Raises:
        VideoOpenError: more than any real video has.
    """
    size = int(np.ceil((end_seconds - SLACK_SECONDS) * rate))
    if size > MAX_SAMPLES:
        raise VideoOpenError(
            f"the time stamps reach {end_seconds:.0f} s, which is {size} samples at {rate:g} per second; "
            f"at most {MAX_SAMPLES} are taken. The file is damaged, or the rate too high"
        )
    return max(size, 1)


def first_of_intervals(frames: Iterable[tuple[float, int]], rate: float) -> dict[int, int]:
    """The first of the frames, given as (seconds, number) in time order, in each interval ``k / rate``, by ``k``."""
    first: dict[int, int] = {}
    for seconds, number in frames:
        first.setdefault(int((seconds + SLACK_SECONDS) * rate), number)
    return first


def grid(packets: Packets, clock: Clock, sampling: Sampling, *, end_seconds: float) -> Grid:
    """The packet of every sample, by the policy of ``sampling``."""
    if sampling.policy == "keyframes":
        return keyframe_grid(packets, clock, sampling.rate)
    return exact_grid(packets, clock, sampling.rate, end_seconds=end_seconds)


def exact_grid(packets: Packets, clock: Clock, rate: float, *, end_seconds: float) -> Grid:
    """Sample ``k`` is the last frame that begins at or before ``k / rate`` seconds.

    Before the first frame: the first frame, if it begins before the time of sample ``k + 1``; else
    the sample is missing.
    """
    order = presentation_order(packets)
    times = packets.pts[order]
    count = grid_size(end_seconds, rate)
    rank = np.searchsorted(times, clock.sample_ticks(rate, count), side="right") - 1
    rank[(rank < 0) & (times[0] <= clock.last_ticks(rate, count))] = 0
    held = rank >= 0
    missing = tuple(
        MissingFrame(int(k), f"no frame is shown yet; the first one comes at {float(clock.seconds(times[0])):.3f} s")
        for k in np.flatnonzero(~held)
    )
    return Grid(np.flatnonzero(held).astype(np.int64), order[rank[held]], missing)


def keyframe_grid(packets: Packets, clock: Clock, rate: float) -> Grid:
    """Sample ``k`` is the first key frame in ``[k / rate, (k + 1) / rate)``; none, no sample."""
    order = presentation_order(packets)
    order = order[packets.key[order]]
    seconds = np.maximum(clock.seconds(packets.pts[order]), 0.0)
    intervals = np.floor((seconds + SLACK_SECONDS) * rate).astype(np.int64)
    ordinals, first = np.unique(intervals, return_index=True)
    return Grid(ordinals.astype(np.int64), order[first])


def restrict(every: Grid, ordinals: IntArray) -> Grid:
    """Only the samples with these ordinals, as far as the grid has them."""
    has = np.isin(every.ordinals, ordinals)
    chosen = frozenset(ordinals.tolist())
    missing = tuple(gap for gap in every.missing if gap.ordinal in chosen)
    return Grid(every.ordinals[has], every.packets[has], missing)


def entries(packets: Packets) -> IntArray:
    """Where decoding may start afresh: int64, packet 0 first.

    An entry counts only if everything decoded before it is shown before it, so that stretches of
    decoding are stretches of time as well.
    """
    pts = packets.pts
    usable = packets.entry & packets.shown & (pts != NO_PTS)
    before = np.maximum.accumulate(np.where(packets.shown, pts, NO_PTS))
    usable[1:] &= before[:-1] < pts[1:]
    usable[:1] = True
    return np.flatnonzero(usable).astype(np.int64)


def plan_jobs(packets: Packets, starts: IntArray, requested: IntArray, *, stop_early: bool = True) -> list[Job]:
    """The stretches to decode so that the frames of ``requested`` come out, in order of time.

    Args:
        packets: what was demuxed; safe in the sense of :func:`unsafe_reason`.
        starts: from :func:`entries`.
        requested: packets whose frames are requested, in order of presentation; repeats allowed.
        stop_early: end a stretch at its last requested packet. If not (a frame's data may go on in
            the next packet), at the next entry or later.
    """
    if not len(requested):
        return []
    distinct = requested[np.append(True, requested[1:] != requested[:-1])]
    # Packet 0 starts the first stretch even if it is no entry; nothing is before that stretch.
    stretch = np.maximum(np.searchsorted(packets.pts[starts[1:]], packets.pts[distinct], side="right"), 0)
    ends = np.append(starts[1:], len(packets)) - 1
    jobs = []
    for number, group in itertools.groupby(zip(stretch.tolist(), distinct.tolist(), strict=True), key=itemgetter(0)):
        own = tuple(packet for _, packet in group)
        last = max(own)
        if not stop_early:
            last = int(ends[number] if last <= ends[number] else ends[min(number + 1, len(ends) - 1)])
        jobs.append(Job(int(starts[number]), last, own))
    return jobs


def keyframe_jobs(packets: Packets, requested: IntArray, *, stop_early: bool = True) -> list[Job]:
    """One stretch for every requested key frame: its packet, and the next one if its data may go on there."""
    following = 0 if stop_early else 1
    return [Job(int(i), min(int(i) + following, len(packets) - 1), (int(i),)) for i in requested]
